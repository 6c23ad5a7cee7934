namespace VhostFs.Simulation.Tests;

/// <summary>How the life of a daemon ends; the weakest promise first.</summary>
internal enum LifeEnd
{
    /// <summary>What was synced is there.</summary>
    PowerCut,

    /// <summary>What was answered is there.</summary>
    ProcessDeath,

    /// <summary>Everything is there.</summary>
    Clean,
}
