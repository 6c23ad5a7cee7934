// A campaign takes both processors.
[assembly: Xunit.CollectionBehavior(DisableTestParallelization = true)]
