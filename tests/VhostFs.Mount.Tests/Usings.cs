global using VhostFs.Guest.Tests;
using Xunit;

[assembly: CollectionBehavior(DisableTestParallelization = true)] // campaigns take both processors
