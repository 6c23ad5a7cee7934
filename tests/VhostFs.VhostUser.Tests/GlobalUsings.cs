global using VhostFs.GuestDriver;
global using Xunit;
[assembly: System.Runtime.Versioning.SupportedOSPlatform("linux")]
