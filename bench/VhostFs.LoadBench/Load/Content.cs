using VhostFs.GuestDriver;

namespace VhostFs.LoadBench.Load;

/// <summary>What is written: bytes that no compression shortens and no two pages share.</summary>
internal static class Content
{
    public static void Fill(RequestSlot slot)
    {
        var random = new Random(slot.Index + 1);
        for (int i = 0; i < slot.SegmentCount; i++) { random.NextBytes(slot.Segment(i)); }
    }
}
