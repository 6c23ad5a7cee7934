using System.Runtime.CompilerServices;

[assembly: InternalsVisibleTo("VhostFs.VhostUser.Tests")]
[assembly: InternalsVisibleTo("VhostFs.GuestDriver")]
[assembly: InternalsVisibleTo("VhostFs.Simulation.Tests")]
[assembly: InternalsVisibleTo("VhostFs.Fuzz.Tests")]
[assembly: InternalsVisibleTo("VhostFs.Program.Tests")]
