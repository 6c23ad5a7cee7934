using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.FuseDev;

/// <summary>A FUSE request that was read from /dev/fuse, with the memory of its reply. Pooled by the channel.</summary>
/// <remarks>
/// Request and reply have two pages each, placed so that what follows a WRITE's arguments and what follows a reply's header begins at a page:
/// payload then goes to and from the bdev without a copy. What does not fit continues in a <see cref="LargeBuffer"/>, also at its first page.
/// A request needs that for one side only: large requests have short replies.
/// </remarks>
internal sealed class DeviceRequest : FuseRequest
{
    private const int PageBytes = 4096;
    private const int WriteHeaderBytes = FuseInHeader.Size + 40; // fuse_in_header and fuse_write_in
    private const int SmallRequestBytes = WriteHeaderBytes + PageBytes;
    private const int SmallReplyBytes = FuseOutHeader.Size + PageBytes;

    private readonly DeviceChannel _channel;
    private readonly NativeBuffer _memory = new(4 * PageBytes);
    private readonly IoVecList _target = new(2);
    private readonly IoVecList _reply = new(2);

    public DeviceRequest(DeviceChannel channel) => _channel = channel;

    public DeviceRequest? Next { get; set; }

    /// <summary>For a large request or reply; the reading borrows it in any case.</summary>
    public LargeBuffer? Large { get; set; }

    /// <summary>Where the next request is read to.</summary>
    public IoVecs Target => _target.View();

    /// <summary>What is to be written to the device.</summary>
    public IoVecs ReplyBytes => _reply.View();

    private IoVec SmallRequest => _memory.Slice(PageBytes - WriteHeaderBytes, SmallRequestBytes);

    private IoVec SmallReply => _memory.Slice((3 * PageBytes) - FuseOutHeader.Size, SmallReplyBytes);

    public void PrepareRead(LargeBuffer large)
    {
        Large = large;
        _target.Clear();
        _target.Add(SmallRequest);
        _target.Add(large.Memory);
    }

    /// <summary>A request of <paramref name="lengthBytes"/> has been read. True: it keeps the large buffer, for itself or for its reply.</summary>
    public bool Arrange(int lengthBytes)
    {
        Readable.AddSlice(_target.View(), 0, lengthBytes);
        bool isLarge = lengthBytes > SmallRequestBytes;
        int most = isLarge ? SmallReplyBytes : SmallReplyBytes + Large!.Memory.Length;
        int room = FuseReplyRoom.Of(Readable.View(), most);
        if (room == 0) { return isLarge; }
        bool hasLargeReply = room > SmallReplyBytes;
        Writable.Add(SmallReply.Slice(0, Math.Min(room, SmallReplyBytes)));
        if (hasLargeReply) { Writable.Add(Large!.Memory.Slice(0, room - SmallReplyBytes)); }
        return isLarge || hasLargeReply;
    }

    public void Clear()
    {
        Readable.Clear();
        Writable.Clear();
        _reply.Clear();
    }

    public override void Dispose()
    {
        _memory.Dispose();
        _target.Dispose();
        _reply.Dispose();
        base.Dispose();
    }

    protected override IoTask<bool> UnparkAsync() => new(!_channel.IsEnding);

    protected override void Complete(int replyBytes)
    {
        _reply.AddSlice(Writable.View(), 0, replyBytes);
        _channel.Finish(this);
    }
}
