using System.Buffers;
using System.Text;
using System.Text.Json;

namespace VhostFs.Commands;

/// <summary>Where a command writes: answers to the output, complaints to the error stream.</summary>
internal sealed class Terminal(TextWriter output, TextWriter error)
{
    public TextWriter Output => output;

    public TextWriter Error => error;

    public void Fail(string message) => error.WriteLine($"vhostfs: {Log.OneLine(message)}");

    /// <summary>One JSON document, for machines. The writer calls name every field, so the schema is what the command says and not how a class looks.</summary>
    public void WriteJson(Action<Utf8JsonWriter> write)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Indented = true })) { write(json); }
        output.WriteLine(Encoding.UTF8.GetString(buffer.WrittenSpan));
    }

    /// <summary>Columns aligned by spaces; the first row is the heading.</summary>
    public void WriteTable(IReadOnlyList<string[]> rows)
    {
        int[] widths = [.. Enumerable.Range(0, rows[0].Length).Select(column => rows.Max(row => row[column].Length))];
        foreach (string[] row in rows)
        {
            output.WriteLine(string.Join("  ", row.Select((cell, column) => cell.PadRight(widths[column]))).TrimEnd());
        }
    }
}
