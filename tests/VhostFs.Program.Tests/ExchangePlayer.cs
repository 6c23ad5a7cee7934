using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;

namespace VhostFs.ProgramTests;

/// <summary>Plays exchanges over the control socket: what is sent is sent as it stands there, and what comes back is compared byte by byte but for its placeholders.</summary>
/// <remarks>
/// Placeholders of answers: <c>&lt;uuid&gt;</c>, <c>&lt;number&gt;</c>, <c>&lt;text&gt;</c>, <c>&lt;names&gt;</c> (texts of a list). <c>&lt;uuid:x&gt;</c> remembers what was there,
/// and <c>&lt;x&gt;</c> is that from then on, in requests, too.
/// </remarks>
internal sealed partial class ExchangePlayer : IDisposable
{
    /// <summary>What Kata's client reads, once: a shorter answer must be there as a whole.</summary>
    private const int OneReadBytes = 8192;

    private static readonly Dictionary<string, string> s_patterns = new(StringComparer.Ordinal)
    {
        ["uuid"] = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        ["number"] = "(?:0|[1-9][0-9]*)",
        ["text"] = "[^\"]*",
        ["names"] = "\"[a-z0-9_]+\"(?:,\"[a-z0-9_]+\")*",
    };

    private readonly string _path;
    private readonly Dictionary<string, string> _known;
    private readonly byte[] _buffer = new byte[1 << 20];
    private int _length;
    private Socket _socket;

    /// <param name="known">What placeholders stand for from the beginning.</param>
    public ExchangePlayer(string path, Dictionary<string, string> known)
    {
        _path = path;
        _known = known;
        _socket = Connect();
    }

    /// <param name="documentation">Where the reason for each answer that is not SPDK's must stand.</param>
    public void Play(Exchange step, string documentation)
    {
        switch (step.Kind)
        {
            case ExchangeKind.Send:
                byte[] request = Encoding.UTF8.GetBytes(Placeholder().Replace(step.Text, match => _known.GetValueOrDefault(match.Groups[1].Value, match.Value)));
                Assert.Equal(request.Length, _socket.Send(request));
                break;
            case ExchangeKind.Receive:
                Compare(step, ReceiveLine(step), documentation);
                break;
            case ExchangeKind.Closed:
                Assert.True(_length == 0 && _socket.Receive(_buffer) == 0, $"line {step.Line}: the daemon has more to say, and should have ended the connection");
                break;
            default:
                _socket.Dispose();
                _length = 0;
                _socket = Connect();
                break;
        }
    }

    public void Dispose() => _socket.Dispose();

    private void Compare(Exchange step, string answer, string documentation)
    {
        Match match = Pattern(step.Text).Match(answer);
        Assert.True(match.Success, $"line {step.Line}: the answer is\n{answer}\nand not\n{step.Text}");
        foreach (string name in match.Groups.Keys.Where(name => !char.IsDigit(name[0]))) { _known[name] = match.Groups[name].Value; }
        if (step.Other is not { } other) { return; }
        Assert.False(Pattern(other.Theirs).IsMatch(answer), $"line {step.Line}: this is SPDK's answer now, and needs no reason any more");
        Assert.True(documentation.Contains(other.Why, StringComparison.Ordinal), $"line {step.Line}: docs/rpc.md does not say '{other.Why}'");
    }

    private Regex Pattern(string template)
    {
        var pattern = new StringBuilder("^");
        var remembered = new HashSet<string>(StringComparer.Ordinal);
        int done = 0;
        foreach (Match match in Placeholder().Matches(template))
        {
            (string name, string asName) = (match.Groups[1].Value, match.Groups[2].Value);
            pattern.Append(Regex.Escape(template[done..match.Index]));
            if (s_patterns.TryGetValue(name, out string? kind)) { pattern.Append(asName.Length > 0 && remembered.Add(asName) ? $"(?<{asName}>{kind})" : kind); }
            else { pattern.Append(remembered.Contains(name) ? $"\\k<{name}>" : Regex.Escape(_known[name])); }
            done = match.Index + match.Length;
        }
        return new Regex(pattern.Append(Regex.Escape(template[done..])).Append('$').ToString(), RegexOptions.CultureInvariant);
    }

    private string ReceiveLine(Exchange step)
    {
        int reads = 0, end;
        while ((end = _buffer.AsSpan(0, _length).IndexOf((byte)'\n')) < 0)
        {
            int received = _socket.Receive(_buffer, _length, OneReadBytes, SocketFlags.None);
            Assert.True(received > 0, $"line {step.Line}: the daemon has ended the connection");
            _length += received;
            reads++;
        }
        Assert.True(reads <= 1 || end + 1 > OneReadBytes, $"line {step.Line}: the answer came in {reads} pieces");
        string line = Encoding.UTF8.GetString(_buffer, 0, end);
        _length -= end + 1;
        _buffer.AsSpan(end + 1, _length).CopyTo(_buffer);
        return line;
    }

    private Socket Connect()
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified) { ReceiveTimeout = 60_000 };
        socket.Connect(new UnixDomainSocketEndPoint(_path));
        return socket;
    }

    [GeneratedRegex("<([a-z0-9]+)(?::([a-z0-9]+))?>")]
    private static partial Regex Placeholder();
}
