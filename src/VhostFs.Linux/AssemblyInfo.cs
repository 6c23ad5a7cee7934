using System.Runtime.CompilerServices;

[assembly: InternalsVisibleTo("VhostFs.VhostUser.Tests")]
