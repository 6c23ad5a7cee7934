namespace VhostFs.Rpc;

internal enum JsonScan
{
    /// <summary>More bytes are needed.</summary>
    Incomplete,

    /// <summary>One whole value, from <see cref="JsonValueScanner.Start"/> to <see cref="JsonValueScanner.Limit"/>.</summary>
    Complete,

    /// <summary>Not the beginning of an object or list: where the next value begins cannot be known any more.</summary>
    Malformed,
}

/// <summary>Finds where a JSON object or list ends in a stream that has no other framing; each byte is looked at once, however it arrives.</summary>
/// <remarks>Only brackets and strings are told apart: whether what is between them is JSON is for the parser to say.</remarks>
internal struct JsonValueScanner
{
    private int _depth;
    private bool _isInString;
    private bool _isEscaped;

    /// <summary>First byte of the value; bytes before it are white space.</summary>
    public int Start { get; private set; }

    /// <summary>First byte behind what has been looked at.</summary>
    public int Limit { get; private set; }

    /// <param name="bytes">From the first byte that belongs to no earlier value; grows from call to call.</param>
    public JsonScan Scan(ReadOnlySpan<byte> bytes)
    {
        while (Limit < bytes.Length)
        {
            byte value = bytes[Limit];
            if (_depth == 0)
            {
                if (value is not ((byte)' ' or (byte)'\t' or (byte)'\r' or (byte)'\n' or (byte)'{' or (byte)'[')) { return JsonScan.Malformed; }
                Start = Limit;
            }
            Limit++;
            if (_isInString) { TakeInString(value); }
            else if (value == '"') { _isInString = true; }
            else if (value is (byte)'{' or (byte)'[') { _depth++; }
            else if (value is (byte)'}' or (byte)']' && --_depth == 0) { return JsonScan.Complete; }
        }
        return JsonScan.Incomplete;
    }

    private void TakeInString(byte value)
    {
        if (_isEscaped) { _isEscaped = false; }
        else if (value == '\\') { _isEscaped = true; }
        else if (value == '"') { _isInString = false; }
    }
}
