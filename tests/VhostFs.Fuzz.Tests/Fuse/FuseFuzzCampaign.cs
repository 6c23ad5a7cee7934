using System.Runtime.InteropServices;
using VhostFs.Campaigns;
using VhostFs.Fuse;

namespace VhostFs.Fuzz.Tests.Fuse;

/// <summary>FUSE requests no kernel sends, among ones that it does, against the real server and file system.</summary>
public sealed class FuseFuzzCampaign()
    : Campaign("fuzz-fuse", "requests", floor: 2_000_000, "FUSE requests, spoilt in every way: one right answer each, nothing left over, the volume checks clean")
{
    private const int RequestsPerSeed = 4096;
    private readonly Lazy<long> _corpus = new(() => Corpus.Run("fuse", RunLines));
    private int _corpusCounted;

    /// <summary>Puts something between server and file system: a mistake that must be found.</summary>
    internal Func<IFileSystem, IFileSystem> Wrap { get; init; } = fileSystem => fileSystem;

    /// <summary>Replies seen per opcode and errno, when somebody wants to know what the fuzzer reaches.</summary>
    internal System.Collections.Concurrent.ConcurrentDictionary<(FuseOpcode Opcode, int Errno), long>? Coverage { get; init; }

    public override long Run(ulong seed)
    {
        long cases = _corpus.Value;
        if (Interlocked.Exchange(ref _corpusCounted, 1) != 0) { cases = 0; }
        var random = new FuzzRandom(seed);
        var guest = new FuseGuest(random);
        FuseServerOptions options = Options(random);
        using var world = new FuseWorld(options, random.OneIn(4) ? new FuzzRandom(seed + 1) : null, Wrap);
        world.Answered = request =>
        {
            if (request.Sent.Length < FuseInHeader.Size) { return; }
            var opcode = (FuseOpcode)MemoryMarshal.Read<uint>(request.Sent[4..]);
            guest.Learn(opcode, MemoryMarshal.Read<ulong>(request.Sent[16..]), request.Reply);
            if (request.ReplyBytes > 0) { Coverage?.AddOrUpdate((opcode, -MemoryMarshal.Read<int>(request.Reply[4..])), 1, (_, n) => n + 1); }
        };
        int sent = 0;
        try
        {
            SendInit(world, guest, random);
            for (; sent < RequestsPerSeed; sent++)
            {
                ReadOnlySpan<byte> bytes = guest.Next(out FuzzInput shape);
                world.Send(bytes, shape);
                // A session that ended would answer EIO for ever.
                if (world.Server.Negotiated is null && random.OneIn(8)) { SendInit(world, guest, random); }
            }
            world.Finish();
        }
        catch (Exception found)
        {
            throw new FindingException($"request {sent}, {options}: {found}");
        }
        return cases + sent;
    }

    /// <summary>A kept input: its requests in order, in a world of their own.</summary>
    internal static long RunLines(string[] lines)
    {
        using var world = new FuseWorld(new FuseServerOptions(), null, fileSystem => fileSystem);
        var guest = new FuseGuest(new FuzzRandom(0));
        world.Send(guest.Init(41, 0x7bfffffb, 0x1ff), new FuzzInput(80));
        foreach (string line in lines) { FuseCorpus.Send(world, line); }
        world.Finish();
        return lines.Length;
    }

    private static void SendInit(FuseWorld world, FuseGuest guest, FuzzRandom random) =>
        world.Send(guest.Init((uint)(random.OneIn(4) ? 27 + random.Next(20) : 41), random.OneIn(4) ? (uint)random.Next() | (1u << 30) : 0x7bfffffb, random.OneIn(4) ? (uint)random.Next() : 0x1ff), new FuzzInput(80));

    private static FuseServerOptions Options(FuzzRandom random) => new()
    {
        Cache = random.Pick<FuseCacheMode>([FuseCacheMode.Auto, FuseCacheMode.Auto, FuseCacheMode.Always, FuseCacheMode.Never, FuseCacheMode.Metadata]),
        Writeback = random.OneIn(3),
        ReadOnly = random.OneIn(40),
        Xattr = !random.OneIn(12),
        PosixAcl = !random.OneIn(6),
        SecurityLabel = random.OneIn(2),
        NegativeTimeout = random.OneIn(3) ? TimeSpan.FromSeconds(1) : TimeSpan.Zero,
        NoOpen = random.OneIn(10),
        NoOpenDirectory = random.OneIn(10),
        PosixLocks = !random.OneIn(3),
        FlockLocks = !random.OneIn(3),
    };
}
