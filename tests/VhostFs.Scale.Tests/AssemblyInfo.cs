using Xunit;

[assembly: System.Runtime.Versioning.SupportedOSPlatform("linux")]
// Each campaign wants the whole machine.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
