namespace VhostFs.LoadBench.Matrix;

/// <summary>vhostfs with a disk that is a file. It runs on: a daemon for all guests of a host does.</summary>
internal sealed class VhostfsDiskServer(string folder, string program, string image) : VhostfsTarget(folder, program)
{
    protected override void Make(RpcClient rpc)
    {
        rpc.Call("bdev_uring_create", new { name = "disk", filename = image, block_size = 512 });
        rpc.Call("vhost_create_blk_controller", new { ctrlr = "disk.sock", dev_name = "disk" });
        Sockets = [SocketOf("disk.sock")];
    }
}
