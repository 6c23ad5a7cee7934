using Xunit;

// Campaigns take all cores by themselves.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
