namespace VhostFs.Commands;

/// <summary><c>--print-capabilities</c>, as vhost-user back-ends answer it.</summary>
internal static class Capabilities
{
    // "separate-options" makes libvirt write --cache x instead of -o cache=x. "migrate-precopy" is not there: it would let libvirt start what we cannot do.
    private const string Json = """
        {
          "type": "fs",
          "features": [
            "separate-options"
          ]
        }
        """;

    public static int Print(TextWriter output)
    {
        output.WriteLine(Json);
        return ExitCode.Ok;
    }
}
