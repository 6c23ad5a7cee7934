using Xunit;

// A campaign takes all processors, and the vhost-user one counts the descriptors and mappings of the process.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
[assembly: System.Runtime.Versioning.SupportedOSPlatform("linux")]
