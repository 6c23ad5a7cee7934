using System.Runtime.CompilerServices;

[assembly: InternalsVisibleTo("VhostFs.Blobfs.Tests")]
