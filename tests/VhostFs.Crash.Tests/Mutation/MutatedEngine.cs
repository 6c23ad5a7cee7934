using System.Reflection;
using System.Runtime.Loader;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;

namespace VhostFs.Crash.Tests.Mutation;

/// <summary>The engine's sources with one mistake, compiled in memory and loaded beside the real one, with a copy of the explorer that uses it.</summary>
public sealed class MutatedEngine : IDisposable
{
    private const string EngineName = "VhostFs.Blobstore";

    // What ImplicitUsings gives the project.
    private const string GlobalUsings = """
        global using System; global using System.Collections.Generic; global using System.IO; global using System.Linq;
        global using System.Net.Http; global using System.Threading; global using System.Threading.Tasks;
        """;

    private readonly EngineLoadContext _context;

    private MutatedEngine(byte[] engine) => _context = new EngineLoadContext(engine);

    /// <summary>Null mutation: the engine as it is, through the same path.</summary>
    public static MutatedEngine Compile(EngineMutation? mutation)
    {
        var options = new CSharpParseOptions(LanguageVersion.Preview);
        List<SyntaxTree> trees = [CSharpSyntaxTree.ParseText(GlobalUsings, options)];
        string folder = Path.Combine(RepositoryRoot(), "blobstore", EngineName);
        bool applied = mutation is null;
        foreach (string path in Directory.EnumerateFiles(folder, "*.cs"))
        {
            string text = File.ReadAllText(path);
            if (mutation is not null && Path.GetFileName(path) == mutation.File)
            {
                int first = text.IndexOf(mutation.Find, StringComparison.Ordinal);
                if (first < 0 || text.IndexOf(mutation.Find, first + 1, StringComparison.Ordinal) >= 0)
                {
                    throw new InvalidOperationException($"mutation '{mutation.Name}': its text must occur exactly once in {mutation.File}; the engine has changed, so change the mutation with it");
                }
                text = text.Replace(mutation.Find, mutation.Replacement, StringComparison.Ordinal);
                applied = true;
            }
            trees.Add(CSharpSyntaxTree.ParseText(text, options, path));
        }
        if (!applied) { throw new InvalidOperationException($"mutation '{mutation!.Name}': there is no {mutation.File}"); }
        return new MutatedEngine(Emit(trees));
    }

    /// <summary>Runs <see cref="MutationProbe.Explore"/> on this engine.</summary>
    public string? Explore(int maxStates, int maxSeconds)
    {
        Assembly tests = _context.LoadFromAssemblyPath(typeof(MutationProbe).Assembly.Location);
        MethodInfo explore = tests.GetType(typeof(MutationProbe).FullName!)!.GetMethod(nameof(MutationProbe.Explore))!;
        return (string?)explore.Invoke(null, [maxStates, maxSeconds]);
    }

    public void Dispose() => _context.Unload();

    private static byte[] Emit(List<SyntaxTree> trees)
    {
        string[] assemblies = ((string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!).Split(Path.PathSeparator);
        IEnumerable<MetadataReference> references = assemblies.Where(path => Path.GetFileNameWithoutExtension(path) != EngineName).Select(path => MetadataReference.CreateFromFile(path));
        var compilation = CSharpCompilation.Create(EngineName, trees, references,
            new CSharpCompilationOptions(OutputKind.DynamicallyLinkedLibrary, optimizationLevel: OptimizationLevel.Release, allowUnsafe: true, nullableContextOptions: NullableContextOptions.Enable));
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
        throw new InvalidOperationException("the sources are not above the test's own folder");
    }

    /// <summary>Everything that refers to the engine is loaded again here; the rest is shared.</summary>
    private sealed class EngineLoadContext(byte[] engine) : AssemblyLoadContext(isCollectible: true)
    {
        private static readonly string[] s_dependents = ["VhostFs.Blobfs", "VhostFs.Crash.Tests"];

        protected override Assembly? Load(AssemblyName name)
        {
            if (name.Name == EngineName) { return LoadFromStream(new MemoryStream(engine)); }
            return s_dependents.Contains(name.Name) ? LoadFromAssemblyPath(Path.Combine(AppContext.BaseDirectory, name.Name + ".dll")) : null;
        }
    }
}
