namespace VhostFs.Rpc;

/// <summary>Error codes of JSON-RPC 2.0; a method's own failures are negative errnos, as in SPDK.</summary>
internal static class RpcErrorCode
{
    public const int ParseError = -32700;
    public const int InvalidRequest = -32600;
    public const int MethodNotFound = -32601;
    public const int InvalidParams = -32602;
    public const int InternalError = -32603;
}

/// <summary>A request that is answered with an error; the message is for whoever sent it.</summary>
internal sealed class RpcException(int code, string message) : Exception(message)
{
    public int Code => code;
}
