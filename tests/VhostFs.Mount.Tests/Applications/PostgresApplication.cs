using System.Globalization;
using VhostFs.Campaigns;

namespace VhostFs.Mount.Tests.Applications;

/// <summary>PostgreSQL with checksums: transactions on a table with an index. The cluster is made once and copied.</summary>
sealed class PostgresApplication : Application
{
    private const int RowsPerTransaction = 5;
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(100);
    private static readonly Lazy<string> s_cluster = new(MakeCluster);
    private static string? s_programs;

    private Command? _server;
    private long _promised;
    private long _asked;

    /// <summary>Null, or why it cannot run here.</summary>
    public static string? Missing => Needs.Mount ?? (Programs is null ? "PostgreSQL is not installed (Debian: postgresql)" : null);

    private static string? Programs => s_programs ??= Directory.Exists("/usr/lib/postgresql")
        ? Directory.GetDirectories("/usr/lib/postgresql").Select(folder => Path.Combine(folder, "bin")).LastOrDefault(folder => File.Exists(Path.Combine(folder, "initdb")))
        : null;

    // It refuses to be root.
    private static string[] AsPostgres(string program, params string[] arguments) =>
        ["--reuid=postgres", "--regid=postgres", "--clear-groups", Path.Combine(Programs!, program), .. arguments];

    public override void Prepare(MountedVolume volume)
    {
        Succeed("/bin/tar", "-C", volume.MountPoint, "-xpf", s_cluster.Value);
        Start(volume);
        Query(volume, "CREATE TABLE t(id bigint PRIMARY KEY, tag text, body text); CREATE INDEX i ON t(tag); CREATE TABLE c(n bigint); INSERT INTO c VALUES(0); CREATE EXTENSION amcheck; CHECKPOINT");
        Stop();
        Succeed("/bin/sync", Data(volume));
    }

    public override void WorkUntilDead(MountedVolume volume)
    {
        Start(volume);
        using (var shell = new Conversation(Path.Combine(Programs!, "psql"), Connection(volume, "-v", "ON_ERROR_STOP=1")))
        {
            while (shell.Send(Transaction(_asked)))
            {
                _asked++;
                if (shell.Next("done ") is null) { break; }
                _promised++;
            }
        }
        // Immediate shutdown; its processes may hang in a dead file system for a moment, but must not outlive it.
        Command.Run("/bin/kill", ["-QUIT", _server!.Id.ToString(CultureInfo.InvariantCulture)]);
        try { _server.Wait(TimeSpan.FromSeconds(20)); }
        catch (TimeoutException) { } // killed by Wait
        _server.Dispose();
        _server = null;
    }

    public override void Verify(MountedVolume volume)
    {
        Start(volume);
        string[] answers = Query(volume, string.Create(CultureInfo.InvariantCulture,
            $"SELECT n FROM c; SELECT count(*) FROM t; SELECT count(*) FROM t, c WHERE body <> {Body("id")} OR tag <> {Tag("id")} OR id < 0 OR id >= n * {RowsPerTransaction}")).Trim().Split('\n');
        long transactions = answers.Length == 3 ? long.Parse(answers[0], CultureInfo.InvariantCulture) : -1;
        if (transactions < 0 || answers[1] != (transactions * RowsPerTransaction).ToString(CultureInfo.InvariantCulture) || answers[2] != "0")
        {
            throw new FindingException($"the database is damaged: {string.Join(" | ", answers)}\n{_server!.Error}");
        }
        ExpectCount("transactions", transactions, _promised, _asked);
        _promised = _asked = transactions;
        Query(volume, "SELECT bt_index_check(c.oid, heapallindexed => true) FROM pg_class c JOIN pg_index x ON x.indexrelid = c.oid JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relpersistence = 'p' AND x.indisready AND x.indisvalid");
        Stop();
        Succeed("/usr/bin/setpriv", AsPostgres("pg_checksums", "--check", "-D", Data(volume)));
    }

    public override void Dispose()
    {
        if (_server is { } server)
        {
            Command.Run("/bin/kill", ["-QUIT", server.Id.ToString(CultureInfo.InvariantCulture)]);
            server.Dispose();
        }
        base.Dispose();
    }

    private static string MakeCluster()
    {
        string folder = Directory.CreateTempSubdirectory("vhostfs-postgres-").FullName;
        Succeed("/bin/chmod", "755", folder);
        string cluster = Path.Combine(folder, "cluster");
        Directory.CreateDirectory(cluster);
        Succeed("/bin/chown", "postgres:", cluster);
        Succeed("/usr/bin/setpriv", AsPostgres("initdb", "-D", cluster, "-A", "trust", "-k", "--no-sync", "--no-locale", "-E", "UTF8", "-U", "postgres"));
        File.AppendAllText(Path.Combine(cluster, "postgresql.conf"), """

            listen_addresses = ''
            shared_buffers = 16MB
            max_connections = 10
            max_wal_size = 32MB
            min_wal_size = 32MB
            wal_keep_size = 0
            checkpoint_timeout = 30s
            autovacuum_naptime = 2s
            dynamic_shared_memory_type = mmap

            """);
        string archive = Path.Combine(folder, "cluster.tar");
        Succeed("/bin/tar", "-C", folder, "-cpf", archive, "cluster");
        Directory.Delete(cluster, recursive: true);
        AppDomain.CurrentDomain.ProcessExit += (_, _) => Directory.Delete(folder, recursive: true);
        return archive;
    }

    private void Start(MountedVolume volume)
    {
        Directory.CreateDirectory(Sockets(volume));
        Succeed("/bin/chown", "postgres:", Sockets(volume));
        var ready = new ManualResetEventSlim();
        var server = new Command("/usr/bin/setpriv", AsPostgres("postgres", "-D", Data(volume), "-k", Sockets(volume)), onErrorLine: line =>
        {
            if (line.Contains("ready to accept connections", StringComparison.Ordinal)) { ready.Set(); }
        });
        _server = server;
        for (int tenths = 0; !ready.Wait(100); tenths++)
        {
            // The kill may come while it starts.
            if (server.HasExited || volume.HasEnded) { break; }
            if (tenths > 1000) { throw new FindingException($"PostgreSQL does not start:\n{server.Error}"); }
        }
        if (!ready.IsSet && !volume.HasEnded) { throw new FindingException($"PostgreSQL does not start:\n{server.Error}"); }
    }

    private void Stop()
    {
        Command.Run("/bin/kill", ["-INT", _server!.Id.ToString(CultureInfo.InvariantCulture)]);
        Finished ended = _server.Wait(s_patience);
        _server.Dispose();
        _server = null;
        if (ended.ExitStatus != 0) { throw new FindingException($"PostgreSQL ended with {ended.ExitStatus}:\n{ended.Error}"); }
    }

    private static string Query(MountedVolume volume, string statements) =>
        Succeed(Path.Combine(Programs!, "psql"), Connection(volume, "-v", "ON_ERROR_STOP=1", "-c", statements));

    private static string[] Connection(MountedVolume volume, params string[] more) => ["-X", "-q", "-A", "-t", "-h", Sockets(volume), "-U", "postgres", .. more, "postgres"];

    private static string Data(MountedVolume volume) => Path.Combine(volume.MountPoint, "cluster");

    private static string Sockets(MountedVolume volume) => Path.Combine(volume.Folder, "pg");

    private static string Body(string id) => $"repeat({id}::text, (20 + {id} % 300)::int)";

    private static string Tag(string id) => $"md5({id}::text)";

    private static string Transaction(long number) => string.Create(CultureInfo.InvariantCulture,
        $"BEGIN; INSERT INTO t SELECT id, {Tag("id")}, {Body("id")} FROM generate_series({number * RowsPerTransaction}::bigint, {(number + 1) * RowsPerTransaction - 1}::bigint) id; UPDATE c SET n = {number + 1}; COMMIT; SELECT 'done {number}';");
}
