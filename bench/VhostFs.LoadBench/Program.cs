using System.CommandLine;
using VhostFs.LoadBench;

return new RootCommand("Load on vhost-user devices, and comparisons of the servers behind them.") { RunCommand.New(), MatrixCommand.New(), DrawCommand.New() }.Parse(args).Invoke();
