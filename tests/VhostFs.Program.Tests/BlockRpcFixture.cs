using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;

namespace VhostFs.ProgramTests;

/// <summary>Tests that play scripts of calls and the answers to them (<see cref="RpcTarget"/>).</summary>
public abstract class BlockRpcFixture : IDisposable
{
    protected const string Uuid0 = "00000000-0000-4000-8000-000000000000", Uuid1 = "00000000-0000-4000-8000-000000000001";
    private readonly TemporaryDirectory _files = new();
    private readonly RpcTarget _target;

    protected BlockRpcFixture() => _target = new RpcTarget(_files);

    private protected TemporaryDirectory Files => _files;

    protected string LogText => _target.Log;

    public void Dispose()
    {
        _target.Dispose();
        _files.Dispose();
        GC.SuppressFinalize(this);
    }

    protected static string Error(int code, string message) => RpcTarget.Error(code, message);

    /// <param name="bdev">Null: it was deleted.</param>
    protected string Controllers(string name, string? bdev, string sessions = "", string cpumask = "0x1") =>
        $$$"""[{"ctrlr":"{{{name}}}","cpumask":"{{{cpumask}}}","delay_base_us":0,"iops_threshold":60000,"socket":"{{{Files["sockets/" + name]}}}","sessions":[{{{sessions}}}],"backend_specific":{"block":{"readonly":false,"bdev":{{{(bdev is null ? "null" : $"\"{bdev}\"")}}},"transport":"vhost_user_blk"} } }]""";

    protected static string Shown(string name, string product, int blockSize, int blockCount, string uuid, string details = "{}", bool isClaimed = false) =>
        $$$"""
        {"name":"{{{name}}}","aliases":["{{{uuid}}}"],"product_name":"{{{product}}}","block_size":{{{blockSize}}},"num_blocks":{{{blockCount}}},"uuid":"{{{uuid}}}",
         "assigned_rate_limits":{"rw_ios_per_sec":0,"rw_mbytes_per_sec":0,"r_mbytes_per_sec":0,"w_mbytes_per_sec":0},
         "claimed":{{{(isClaimed ? "true,\"claim_type\":\"exclusive_write\"" : "false")}}},"zoned":false,
         "supported_io_types":{"read":true,"write":true,"unmap":true,"flush":true,"reset":false,"nvme_admin":false,"nvme_io":false,"nvme_io_md":false,"write_zeroes":true,"zcopy":false,
          "get_zone_info":false,"zone_management":false,"zone_append":false,"compare":false,"compare_and_write":false,"abort":false,"seek_hole":false,"seek_data":false,"copy":false,"nvme_iov_md":false},
         "driver_specific":{{{details}}} }
        """;

    protected Task PlayAsync(params (string Method, string Parameters, string Expected)[] script) => _target.PlayAsync(script);

    protected Task<JsonNode> CallAsync(string method, string parameters) => _target.CallAsync(method, parameters);

    protected static Socket Connect(string path)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified) { ReceiveTimeout = 60_000 };
        socket.Connect(new UnixDomainSocketEndPoint(path));
        return socket;
    }

    protected static async Task SendAsync(Socket socket, string text) => Assert.Equal(Encoding.UTF8.GetByteCount(text), await socket.SendAsync(Encoding.UTF8.GetBytes(text)));

    protected static async Task<string> ReadOnceAsync(Socket socket)
    {
        byte[] answer = new byte[65536];
        return Encoding.UTF8.GetString(answer, 0, await socket.ReceiveAsync(answer));
    }
}
