using VhostFs.Crash.Tests.Mutation;

return MutationWorker.Serve();
