using System.Runtime.InteropServices;
using VhostFs.Linux;

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
/// <param name="reason">For the log, where the message is one that clients know by heart and that says little.</param>
internal sealed class RpcException(int code, string message, string reason = "") : Exception(message)
{
    public int Code => code;

    public string Reason => reason;

    /// <summary>As most of SPDK's methods put it: the errno as code, its text as message.</summary>
    public static RpcException Of(Errno errno, string reason) => new(-(int)errno, Text(errno), reason);

    /// <summary>As SPDK's vhost_*, bdev_lvol_* and a few others put it: one code for all, and the errno's text.</summary>
    public static RpcException InvalidParams(Errno errno, string reason) => new(RpcErrorCode.InvalidParams, Text(errno), reason);

    /// <summary>strerror(3).</summary>
    public static string Text(Errno errno) => Marshal.GetPInvokeErrorMessage((int)errno);
}
