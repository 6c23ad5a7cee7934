using System.Buffers.Text;
using VhostFs.GuestDriver;

namespace VhostFs.LoadBench.Load;

/// <summary>The files of the metadata job, in directories of their own: what they are called, where they are, and what of them the front-end must forget.</summary>
internal sealed class MetaFiles
{
    public const int Directories = 10;
    private const int NameBytes = 16;
    private readonly FuseClient _client;
    private readonly string _tag;

    /// <param name="tag">In the names of the directories.</param>
    public MetaFiles(FuseClient client, int count, string tag = "")
    {
        _client = client;
        _tag = tag;
        Count = count;
        Nodes = new ulong[count];
        Lookups = new ulong[count];
        DirectoryNodes = [.. Enumerable.Range(0, Directories).Select(i =>
        {
            client.Must(client.MakeDirectory(FuseClient.Root, DirectoryName(i), 0x1ED, out VhostFs.Fuse.FuseEntryOut made), "mkdir");
            return made.NodeId;
        })];
    }

    public int Count { get; }

    /// <summary>0 when a file is not known.</summary>
    public ulong[] Nodes { get; }

    /// <summary>How often the server has told of the node.</summary>
    public ulong[] Lookups { get; }

    public ulong[] DirectoryNodes { get; }

    public ulong ParentOf(int file) => DirectoryNodes[file % Directories];

    /// <summary>With its NUL; good until the next call.</summary>
    /// <param name="place">At least 16 bytes.</param>
    public static ReadOnlySpan<byte> Name(int file, bool isMoved, Span<byte> place)
    {
        (isMoved ? "moved-"u8 : "file--"u8).CopyTo(place);
        Utf8Formatter.TryFormat(file, place[6..], out int digits, new System.Buffers.StandardFormat('D', 8));
        place[6 + digits] = 0;
        return place[..(6 + digits + 1)];
    }

    /// <summary>The number in a name; -1: not one of ours.</summary>
    public static int NumberOf(ReadOnlySpan<byte> name) =>
        name.Length == NameBytes - 2 && Utf8Parser.TryParse(name[6..], out int file, out int digits) && digits == 8 ? file : -1;

    /// <summary>The directories, empty by now, go.</summary>
    public void Remove()
    {
        for (int i = 0; i < Directories; i++)
        {
            _client.Must(_client.RemoveDirectory(FuseClient.Root, DirectoryName(i)), "rmdir");
            _client.Forget(DirectoryNodes[i], 1);
        }
    }

    private string DirectoryName(int i) => $"loadbench-{Environment.ProcessId}-{_tag}{i}";
}
