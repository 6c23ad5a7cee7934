using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Simulation.Tests.Guest;

namespace VhostFs.Simulation.Tests.Model;

/// <summary>What the model says of an operation in one state: the answer, and the state after it.</summary>
internal readonly record struct Prediction(Errno Errno, ModelState Next, byte[] Data)
{
    public bool Allows(in FileResult result) => result.Errno == Errno && (Errno != Errno.None || result.Data.AsSpan().SequenceEqual(Data));
}

/// <summary>One operation, as a guest does it and as the model does it.</summary>
/// <param name="What">For the trace and for findings.</param>
internal sealed record FileOperation(string What, Func<GuestFiles, IoTask<FileResult>> Run, Func<ModelState, Prediction> Predict, bool IsChange = false, bool IsSync = false);
