using System.Text;
using VhostFs.Fuse;
using VhostFs.Linux;

namespace VhostFs.Model.Tests;

/// <summary>Runs one sequence on the file system and on the specification, and compares every answer and, at the end, everything there is.</summary>
internal sealed class ModelSequence(ModelSetting setting, Func<IFileSystem, IFileSystem> wrap)
{
    private const int MaxTogether = 4;
    private readonly List<string> _log = [];
    private readonly List<ulong> _gone = [];

    /// <summary>What was done, for people.</summary>
    public IEnumerable<string> Log => _log;

    /// <summary>Null, or what differs.</summary>
    public string? Run(IReadOnlyList<Draft> drafts)
    {
        using var host = new ModelHost(setting, wrap);
        long freeAtFirst = host.FreeBlocks;
        var spec = new Spec(host.Now);
        if (host.Run([new Command(CommandKind.GetAttributes, 0) { Inode = 1 }])[0].Attributes is not { } root) { return "there is no root directory"; }
        spec.Find(Spec.Root)!.Access = root.AccessTime;
        for (int i = 0; i < drafts.Count;)
        {
            host.Now = new FsTime(host.Now.Seconds + 1, 500);
            spec.Now = host.Now;
            if (drafts[i].IsRemount || drafts[i].IsEndOfSession)
            {
                if (Interrupt(host, spec, drafts[i++]) is { } wrong) { return wrong; }
                continue;
            }
            var commands = new List<Command> { drafts[i++].ToCommand(spec, setting, _gone) };
            while (setting.Sessions > 1 && commands.Count < MaxTogether && MayOverlap(commands[0], spec) && i < drafts.Count && drafts[i] is { Together: true, IsRemount: false, IsEndOfSession: false })
            {
                Command next = drafts[i].ToCommand(spec, setting, _gone);
                if (!MayOverlap(next, spec)) { break; }
                commands.Add(next);
                i++;
            }
            if (Step(host, ref spec, commands) is { } problem) { return problem; }
        }
        _log.Add("(comparing everything)");
        return Compare(host, spec) ?? Empty(host, spec, freeAtFirst);
    }

    /// <summary>What nobody refers to may be deleted at any moment once its name is gone: no guest works on it.</summary>
    private static bool MayOverlap(Command command, Spec spec) =>
        command.IsAtomic && new[] { command.Node, command.Node2 }.All(id => id == Spec.Root || spec.Find(id) is { IsReferenced: true });

    private string? Interrupt(ModelHost host, Spec spec, Draft draft)
    {
        HashSet<ulong> before = [.. spec.Nodes.Select(static n => n.Inode)];
        if (!draft.IsRemount)
        {
            int session = draft.A % setting.Sessions;
            _log.Add($"session {session} ends");
            host.EndSession(session);
            spec.EndSession(session);
        }
        else
        {
            _log.Add(draft.IsClean ? "clean remount" : "sync, death of the process, remount");
            if (!draft.IsClean && host.Run([new Command(CommandKind.SyncFs, 0)])[0].Errno is var synced && synced != Errno.None) { return $"sync: {synced}"; }
            if (host.Remount(draft.IsClean) is { } problem) { return problem; }
            for (int i = 0; i < Spec.MaxSessions; i++) { spec.EndSession(i); }
        }
        return Settle(host, spec, before);
    }

    private string? Step(ModelHost host, ref Spec spec, List<Command> commands)
    {
        HashSet<ulong> before = [.. spec.Nodes.Select(static n => n.Inode)];
        Outcome[] outcomes = host.Run(commands);
        for (int i = 0; i < commands.Count; i++) { _log.Add($"{(i == 0 ? "" : "  at the same time: ")}{commands[i]} -> {outcomes[i]}"); }
        if (commands.Count == 1)
        {
            Outcome expected = spec.Run(commands[0]);
            return Differs(spec, outcomes[0], expected) ? $"{commands[0]}\n  answered  {outcomes[0]}\n  should be {expected}" : Settle(host, spec, before);
        }
        var explanations = new List<Spec>();
        Explain(spec, commands, outcomes, 0, explanations);
        if (explanations.Count == 0) { return $"no order explains these answers:{string.Concat(commands.Select((c, i) => $"\n  {c} -> {outcomes[i]}"))}"; }
        // Several orders may give these answers and leave something different: one of them is what there is.
        string? problem = explanations.Count == 1 ? null : "";
        for (int i = 0; i < explanations.Count && problem is not null; i++)
        {
            spec = explanations[i];
            problem = Settle(host, spec, before) ?? Compare(host, spec.Clone());
        }
        if (problem is not null) { return $"no order explains what these operations left:{string.Concat(commands.Select((c, i) => $"\n  {c} -> {outcomes[i]}"))}\n{problem}"; }
        spec = explanations.Count == 1 ? explanations[0] : spec;
        return Settle(host, spec, before);
    }

    /// <summary>Collects the states that the operations lead to in orders in which they give the answers that they gave.</summary>
    private static void Explain(Spec spec, List<Command> commands, Outcome[] outcomes, int done, List<Spec> explanations)
    {
        if (done == (1 << commands.Count) - 1)
        {
            if (!explanations.Exists(spec.IsSameAs)) { explanations.Add(spec); }
            return;
        }
        for (int i = 0; i < commands.Count; i++)
        {
            if ((done & (1 << i)) != 0) { continue; }
            Spec next = spec.Clone();
            if (!Differs(next, outcomes[i], next.Run(commands[i]))) { Explain(next, commands, outcomes, done | (1 << i), explanations); }
        }
    }

    private static bool Differs(Spec spec, Outcome outcome, Outcome expected)
    {
        if (expected.IsNumber is { } isNumber)
        {
            // All zero: that there is no data, or that these zeroes are data.
            return outcome.Errno == Errno.ENXIO ? expected.Number != -1 : outcome.Errno != Errno.None || !isNumber(outcome.Number);
        }
        if (outcome.Errno != expected.Errno || outcome.Number != expected.Number) { return true; }
        if (!(outcome.Bytes ?? []).AsSpan().SequenceEqual(expected.Bytes ?? []) || !(outcome.Names ?? []).SequenceEqual(expected.Names ?? [])) { return true; }
        if (outcome.Attributes is null || expected.Attributes is null) { return outcome.Attributes.HasValue != expected.Attributes.HasValue; }
        InodeAttributes told = outcome.Attributes.Value;
        SpecNode? node = spec.Find(expected.Node);
        ulong inode = node?.Inode ?? expected.Attributes.Value.Inode;
        if (inode == 0)
        {
            if (spec.Nodes.Any(other => other.Inode == told.Inode)) { return true; } // a number belongs to one inode
            node!.Inode = inode = told.Inode;
        }
        // The length of what is no file or link, and generation, blocks and flags, are nobody's business here.
        bool isSized = (told.Mode & 0xF000) is 0x8000 or 0xA000;
        return (told with { Generation = 1, Blocks512 = 0, Flags = 0, SizeBytes = isSized ? told.SizeBytes : 0 }) != (expected.Attributes.Value with { Inode = inode });
    }

    /// <summary>What the specification says is gone goes, in the background; a handle to it is stale from then on.</summary>
    private string? Settle(ModelHost host, Spec spec, HashSet<ulong> before)
    {
        // A whiteout is an inode that nobody was told of.
        foreach (SpecNode directory in spec.Nodes.Where(static n => n.IsDirectory).ToArray())
        {
            foreach ((string name, (int id, int _)) in directory.Children.ToArray())
            {
                if (spec.Find(id) is { Inode: 0 })
                {
                    var lookup = new Command(CommandKind.Lookup, 0) { Node = directory.Id, Inode = directory.Inode, Name = name };
                    Outcome found = host.Run([lookup])[0], expected = spec.Run(lookup);
                    if (Differs(spec, found, expected)) { return $"the whiteout {name} in {directory.Inode}\n  is        {found}\n  should be {expected}"; }
                }
            }
        }
        bool anyGone = false;
        HashSet<ulong> now = [.. spec.Nodes.Select(static n => n.Inode)];
        foreach (ulong inode in before)
        {
            if (now.Contains(inode)) { continue; }
            anyGone = true;
            _gone.Add(inode);
        }
        int nameless = spec.Nodes.Count(static n => n.Links == 0);
        if (!anyGone && host.OrphanCount == nameless) { return null; }
        return host.WaitForOrphans(nameless) ? null : $"{host.OrphanCount} inodes without a name are kept; it should be {nameless}";
    }

    /// <summary>Everything that can be seen, without leaving a trace on the file system; the specification's access times change.</summary>
    private static string? Compare(ModelHost host, Spec spec)
    {
        foreach (SpecNode node in spec.Nodes.OrderBy(static n => n.Id).ToArray())
        {
            var c = new Command(CommandKind.GetAttributes, 0) { Node = node.Id, Inode = node.Inode };
            var commands = new List<Command> { c, c with { Kind = CommandKind.ListXattr, Length = 65536 } };
            commands.AddRange(node.Xattrs.Keys.Concat(["system.posix_acl_access", "system.posix_acl_default"]).Select(name => c with { Kind = CommandKind.GetXattr, Name = name, Length = 65536 }));
            if (node.IsFile) { commands.Add(c with { Kind = CommandKind.Read, Length = node.Content.Length + 100 }); }
            if (node.IsLink) { commands.Add(c with { Kind = CommandKind.ReadLink }); }
            if (node.IsDirectory) { commands.Add(c with { Kind = CommandKind.ReadDirectory, Length = 5 }); }
            foreach (Command command in commands)
            {
                Outcome found = host.Look(command), expected = spec.Run(command);
                if (Differs(spec, found, expected)) { return $"looking afterwards, {command}\n  there is  {found}\n  should be {expected}"; }
            }
        }
        return null;
    }

    /// <summary>Everything is removed: all space comes back.</summary>
    private string? Empty(ModelHost host, Spec spec, long freeAtFirst)
    {
        while (spec.Nodes.FirstOrDefault(static n => n.IsDirectory && n.Links > 0 && n.Children.Count > 0) is not null)
        {
            foreach (SpecNode directory in spec.Nodes.Where(static n => n.IsDirectory).ToArray())
            {
                foreach ((string name, (int id, int _)) in directory.Children.ToArray())
                {
                    SpecNode child = spec.Find(id)!;
                    if (child.Children.Count > 0) { continue; }
                    var remove = new Command(child.IsDirectory ? CommandKind.RemoveDirectory : CommandKind.Unlink, 0) { Node = directory.Id, Inode = directory.Inode, Name = name };
                    Outcome removed = host.Run([remove])[0];
                    if (removed.Errno != Errno.None) { return $"emptying: {remove} -> {removed}"; }
                    spec.Run(remove);
                }
            }
        }
        for (int i = 0; i < Spec.MaxSessions; i++) { host.EndSession(i); }
        if (!host.WaitForOrphans(0)) { return $"{host.OrphanCount} inodes are kept for nobody"; }
        return host.FreeBlocks == freeAtFirst ? null : $"{freeAtFirst} blocks were free at first, {host.FreeBlocks} are after all was removed";
    }

    public string Story() => string.Join('\n', _log.Select((line, i) => $"{i + 1,4}  {line}"));
}
