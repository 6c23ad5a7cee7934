namespace VhostFs.Fuse;

/// <summary>Requests and errors per opcode since the server was made; opcodes we do not know count under 0.</summary>
public sealed class FuseCounters
{
    private const int OpcodeLimit = (int)FuseOpcode.COPY_FILE_RANGE_64 + 1;

    private readonly ulong[] _requests = new ulong[OpcodeLimit];
    private readonly ulong[] _errors = new ulong[OpcodeLimit];

    public ulong Requests(FuseOpcode opcode) => _requests[Index(opcode)];

    public ulong Errors(FuseOpcode opcode) => _errors[Index(opcode)];

    internal void CountRequest(FuseOpcode opcode) => _requests[Index(opcode)]++;

    internal void CountError(FuseOpcode opcode) => _errors[Index(opcode)]++;

    private static int Index(FuseOpcode opcode) => (uint)opcode < OpcodeLimit ? (int)opcode : 0;
}
