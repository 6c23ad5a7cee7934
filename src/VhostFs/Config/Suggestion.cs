namespace VhostFs.Config;

/// <summary>Finds the word that was probably meant.</summary>
internal static class Suggestion
{
    /// <summary>The candidate at most three edits away (two for short words), or null.</summary>
    public static string? Nearest(string word, IEnumerable<string> candidates)
    {
        int limit = word.Length <= 4 ? 2 : 3;
        string? best = null;
        int bestDistance = limit + 1;
        foreach (string candidate in candidates)
        {
            int distance = Distance(word, candidate);
            if (distance < bestDistance && distance < Math.Max(word.Length, candidate.Length))
            {
                best = candidate;
                bestDistance = distance;
            }
        }
        return best;
    }

    // Levenshtein, one row at a time.
    private static int Distance(string source, string target)
    {
        var row = new int[target.Length + 1];
        for (int t = 0; t <= target.Length; t++) { row[t] = t; }
        for (int s = 1; s <= source.Length; s++)
        {
            int diagonal = row[0];
            row[0] = s;
            for (int t = 1; t <= target.Length; t++)
            {
                int substituted = diagonal + (source[s - 1] == target[t - 1] ? 0 : 1);
                diagonal = row[t];
                row[t] = Math.Min(substituted, Math.Min(row[t], row[t - 1]) + 1);
            }
        }
        return row[target.Length];
    }
}
