using System.Collections.Concurrent;
using System.Reflection;
using System.Runtime.Loader;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;

namespace VhostFs.Crash.Tests.Mutation;

/// <summary>An assembly with one mistake, compiled in memory and loaded beside the real one, with a copy of the explorer that uses it.</summary>
public sealed class MutatedEngine : IDisposable
{
    private const string EngineName = "VhostFs.Blobstore";
    private const string FilesName = "VhostFs.Blobfs";

    // What ImplicitUsings gives the project.
    private const string GlobalUsings = """
        global using System; global using System.Collections.Generic; global using System.IO; global using System.Linq;
        global using System.Net.Http; global using System.Threading; global using System.Threading.Tasks;
        """;

    private static readonly CSharpParseOptions s_options = new(LanguageVersion.Preview);

    /// <summary>The sources as they are, parsed once.</summary>
    private static readonly ConcurrentDictionary<string, Lazy<CSharpCompilation>> s_sources = new();

    private readonly EngineLoadContext _context;

    private MutatedEngine(string name, byte[] assembly) => _context = new EngineLoadContext(name, assembly);

    /// <summary>Null mutation: the engine as it is, through the same path.</summary>
    public static MutatedEngine Compile(EngineMutation? mutation)
    {
        string assembly = mutation?.Assembly ?? EngineName;
        CSharpCompilation compilation = s_sources.GetOrAdd(assembly, static name => new Lazy<CSharpCompilation>(() => Parse(name))).Value;
        if (mutation is null) { return new MutatedEngine(assembly, Emit(compilation)); }
        SyntaxTree tree = compilation.SyntaxTrees.SingleOrDefault(tree => Path.GetFileName(tree.FilePath) == Path.GetFileName(mutation.File))
            ?? throw new InvalidOperationException($"mutation '{mutation.Name}': there is no {mutation.File}");
        return new MutatedEngine(assembly, Emit(compilation.ReplaceSyntaxTree(tree, CSharpSyntaxTree.ParseText(Apply(mutation, tree.ToString()), s_options, tree.FilePath))));
    }

    /// <summary>The mutation has a place in the engine as it is.</summary>
    /// <exception cref="InvalidOperationException">It has none, or several.</exception>
    public static void Check(EngineMutation mutation) => Apply(mutation, File.ReadAllText(Path.Combine(RepositoryRoot(), "blobstore", $"VhostFs.{mutation.File}")));

    private static string Apply(EngineMutation mutation, string text)
    {
        int first = text.IndexOf(mutation.Find, StringComparison.Ordinal);
        if (first < 0 || text.IndexOf(mutation.Find, first + 1, StringComparison.Ordinal) >= 0)
        {
            throw new InvalidOperationException($"mutation '{mutation.Name}': its text must occur exactly once in {mutation.File}; the engine has changed, so change the mutation with it");
        }
        return text.Replace(mutation.Find, mutation.Replacement, StringComparison.Ordinal);
    }

    /// <summary>Runs <see cref="MutationProbe.Explore"/> on this engine.</summary>
    public string? Explore(IReadOnlyList<string> lookFirst, long maxStates)
    {
        Assembly tests = _context.LoadFromAssemblyPath(typeof(MutationProbe).Assembly.Location);
        MethodInfo explore = tests.GetType(typeof(MutationProbe).FullName!)!.GetMethod(nameof(MutationProbe.Explore))!;
        return (string?)explore.Invoke(null, [lookFirst.ToArray(), maxStates]);
    }

    public void Dispose() => _context.Unload();

    private static CSharpCompilation Parse(string name)
    {
        List<SyntaxTree> trees = [CSharpSyntaxTree.ParseText(GlobalUsings, s_options)];
        foreach (string path in Directory.EnumerateFiles(Path.Combine(RepositoryRoot(), "blobstore", name), "*.cs")) { trees.Add(CSharpSyntaxTree.ParseText(File.ReadAllText(path), s_options, path)); }
        string[] assemblies = ((string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!).Split(Path.PathSeparator);
        IEnumerable<MetadataReference> references = assemblies.Where(path => Path.GetFileNameWithoutExtension(path) != name).Select(path => MetadataReference.CreateFromFile(path));
        return CSharpCompilation.Create(name, trees, references,
            new CSharpCompilationOptions(OutputKind.DynamicallyLinkedLibrary, optimizationLevel: OptimizationLevel.Release, allowUnsafe: true, nullableContextOptions: NullableContextOptions.Enable, concurrentBuild: false));
    }

    private static byte[] Emit(CSharpCompilation compilation)
    {
        using var image = new MemoryStream();
        var result = compilation.Emit(image);
        if (!result.Success)
        {
            throw new InvalidOperationException("the mutated engine does not compile: " + string.Join("; ", result.Diagnostics.Where(found => found.Severity == DiagnosticSeverity.Error).Take(3)));
        }
        return image.ToArray();
    }

    private static string RepositoryRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "VhostFs.sln"))) { return folder.FullName; }
        }
        throw new InvalidOperationException("the sources are not above the program's own folder");
    }

    /// <summary>Everything that refers to the mutated assembly is loaded again here; the rest is shared.</summary>
    private sealed class EngineLoadContext(string mutated, byte[] assembly) : AssemblyLoadContext(isCollectible: true)
    {
        private static readonly string[] s_dependents = [FilesName, "VhostFs.Crash.Tests"];

        protected override Assembly? Load(AssemblyName name)
        {
            if (name.Name == mutated) { return LoadFromStream(new MemoryStream(assembly)); }
            return s_dependents.Contains(name.Name) ? LoadFromAssemblyPath(Path.Combine(AppContext.BaseDirectory, name.Name + ".dll")) : null;
        }
    }
}
