using Xunit;

[assembly: CollectionBehavior(DisableTestParallelization = true)] // one emulated guest at a time is enough for two processors
