using System.Globalization;
using VhostFs.Campaigns;

namespace VhostFs.Mount.Tests.Applications;

/// <summary>SQLite: transactions on a table with an index, one after the other.</summary>
sealed class SqliteApplication(bool writeAheadLog) : Application
{
    private const int RowsPerTransaction = 3;

    // EXTRA: with a rollback journal, FULL does not sync the directory that the journal is deleted from.
    private readonly string _pragmas = writeAheadLog
        ? "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=50;"
        : "PRAGMA journal_mode=DELETE; PRAGMA synchronous=EXTRA;";

    private long _promised;
    private long _asked;

    public override void Prepare(MountedVolume volume) => Succeed("sqlite3", "-bail", Database(volume),
        $"{_pragmas} CREATE TABLE t(id INTEGER PRIMARY KEY, tag TEXT, body TEXT); CREATE INDEX i ON t(tag); CREATE TABLE c(n INTEGER); INSERT INTO c VALUES(0);");

    public override void WorkUntilDead(MountedVolume volume)
    {
        using var shell = new Conversation("sqlite3", "-bail", "-batch", Database(volume));
        shell.Send(_pragmas);
        while (shell.Send(Transaction(_asked)))
        {
            _asked++;
            if (shell.Next("done ") is null) { return; }
            // SQLite takes a directory that cannot be opened for one that need not be synced: when the mount dies just after the journal was
            // deleted, it calls the transaction committed. Such a promise is not ours to keep.
            if (!volume.IsAlive) { return; }
            _promised++;
        }
    }

    public override void Verify(MountedVolume volume)
    {
        string[] lines = Succeed("sqlite3", "-bail", Database(volume), string.Create(CultureInfo.InvariantCulture,
            $"PRAGMA integrity_check; SELECT n FROM c; SELECT count(*) FROM t; SELECT count(*) FROM t WHERE body <> {Body("id")} OR tag <> {Tag("id")}; SELECT count(DISTINCT id) FROM t, c WHERE id < n * {RowsPerTransaction};")).Trim().Split('\n');
        long transactions = lines.Length == 5 && lines[0] == "ok" ? long.Parse(lines[1], CultureInfo.InvariantCulture) : -1;
        string rows = (transactions * RowsPerTransaction).ToString(CultureInfo.InvariantCulture);
        if (transactions < 0 || lines[2] != rows || lines[3] != "0" || lines[4] != rows) { throw new FindingException($"the database is damaged: {string.Join(" | ", lines)}"); }
        ExpectCount("transactions", transactions, _promised, _asked);
        _promised = _asked = transactions;
    }

    private static string Database(MountedVolume volume) => Path.Combine(volume.MountPoint, "data.sqlite");

    private static string Body(string id) => $"printf('%0*d', 20 + ({id} * 37) % 3000, {id})";

    private static string Tag(string id) => $"printf('%08x', ({id} * 2654435761) % 1000003)";

    private static string Transaction(long number)
    {
        var text = new System.Text.StringBuilder("BEGIN;");
        for (long id = number * RowsPerTransaction; id < (number + 1) * RowsPerTransaction; id++)
        {
            string literal = id.ToString(CultureInfo.InvariantCulture);
            text.Append(CultureInfo.InvariantCulture, $"INSERT INTO t VALUES({literal}, {Tag(literal)}, {Body(literal)});");
        }
        return text.Append(CultureInfo.InvariantCulture, $"UPDATE c SET n = {number + 1}; COMMIT; SELECT 'done {number}';").ToString();
    }
}
