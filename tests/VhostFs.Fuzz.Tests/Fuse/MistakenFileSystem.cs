using System.Reflection;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Fuzz.Tests.Fuse;

/// <summary>A file system with one mistake in it, for the test that the fuzzer finds mistakes.</summary>
public class MistakenFileSystem : DispatchProxy
{
    private IFileSystem _inner = null!;
    private string _mistake = "";

    public static readonly string[] Mistakes =
    [
        "an errno that kernels refuse", "a request that is never answered", "a reference that outlives its session", "a write into the request",
        "a read past the room for the reply", "more bytes copied than asked for",
    ];

    internal static IFileSystem Wrap(IFileSystem inner, string mistake)
    {
        IFileSystem proxy = Create<IFileSystem, MistakenFileSystem>();
        var mistaken = (MistakenFileSystem)proxy;
        (mistaken._inner, mistaken._mistake) = (inner, mistake);
        return proxy;
    }

    protected override object? Invoke(MethodInfo? targetMethod, object?[]? args)
    {
        switch (_mistake, targetMethod!.Name)
        {
            case ("an errno that kernels refuse", nameof(IFileSystem.GetAttributesAsync)):
                return new IoTask<FsResult<InodeAttributes>>((Errno)600);
            case ("a request that is never answered", nameof(IFileSystem.FlushAsync)):
                return new IoCompletion<Errno>().Task;
            case ("a reference that outlives its session", nameof(IFileSystem.EndSession)):
                return null;
            case ("a write into the request", nameof(IFileSystem.WriteAsync)):
                ((IoVecs)args![3]!).Clear(0, 1);
                break;
            case ("a read past the room for the reply", nameof(IFileSystem.ReadAsync)):
                ReadPast((IoVecs)args![3]!);
                break;
            case ("more bytes copied than asked for", nameof(IFileSystem.CopyFileRangeAsync)):
                return new IoTask<IoResult>(new IoResult(1 << 30));
            default:
                break;
        }
        return targetMethod.Invoke(_inner, args);
    }

    private static unsafe void ReadPast(IoVecs target)
    {
        if (target.Count > 0 && target[target.Count - 1] is { Length: > 0 } last) { *((byte*)last.Address + last.Length) = 0; }
    }
}
