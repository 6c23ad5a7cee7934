namespace VhostFs.Campaigns;

/// <summary>A run found a mistake; the message says what was promised, what is there, and where to look.</summary>
public sealed class FindingException(string message) : Exception(message);
