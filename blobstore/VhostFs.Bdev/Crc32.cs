namespace VhostFs.Bdev;

/// <summary>CRC-32 as zlib and UEFI have it: the reflected polynomial EDB88320h, initial value and final complement all ones. <c>Of("123456789") = 0xCBF43926</c>.</summary>
internal static class Crc32
{
    private static readonly uint[] s_table = MakeTable();

    public static uint Of(ReadOnlySpan<byte> bytes)
    {
        uint state = uint.MaxValue;
        foreach (byte value in bytes) { state = s_table[(byte)(state ^ value)] ^ (state >> 8); }
        return ~state;
    }

    private static uint[] MakeTable()
    {
        uint[] table = new uint[256];
        for (uint i = 0; i < table.Length; i++)
        {
            uint value = i;
            for (int bit = 0; bit < 8; bit++) { value = (value & 1) != 0 ? (value >> 1) ^ 0xEDB88320 : value >> 1; }
            table[i] = value;
        }
        return table;
    }
}
