namespace VhostFs.ProgramTests;

public class QemuOptionsTests
{
    [Fact]
    public void The_options_share_the_guests_memory_and_name_socket_and_tag()
    {
        string options = QemuOptions.Format("/run/vm1.sock", "web");
        Assert.Contains("-m 2G -object memory-backend-memfd,id=mem,size=2G,share=on -machine memory-backend=mem", options, StringComparison.Ordinal);
        Assert.Contains("-chardev socket,id=fs0,path=/run/vm1.sock ", options, StringComparison.Ordinal);
        Assert.Contains("-device vhost-user-fs-pci,chardev=fs0,tag=web,queue-size=1024\n", options, StringComparison.Ordinal);
    }

    [Fact]
    public void Commas_are_doubled_for_QEMU_and_odd_characters_quoted_for_the_shell()
    {
        string options = QemuOptions.Format("/run/a,b c.sock", "it's");
        Assert.Contains("'socket,id=fs0,path=/run/a,,b c.sock'", options, StringComparison.Ordinal);
        Assert.Contains("'vhost-user-fs-pci,chardev=fs0,tag=it'\\''s,queue-size=1024'", options, StringComparison.Ordinal);
    }

    [Fact]
    public void A_tag_must_fit_into_36_bytes()
    {
        Assert.True(QemuOptions.TryCheckTag(new string('a', 36), out _));
        Assert.False(QemuOptions.TryCheckTag(new string('ä', 19), out string error));
        Assert.Contains("38 bytes", error, StringComparison.Ordinal);
    }

    [Fact]
    public void The_log_keeps_an_entry_on_one_line()
    {
        var target = new StringWriter();
        var log = new Log(target, LogLevel.Info);
        log.Info("export a\nb", "x\r\ny\u001b[31m");
        log.Debug("", "not at this level");
        log.Error("", "bad");
        Assert.Equal("vhostfs: [export a\\nb] x\\x0d\\ny\\x1b[31m\nvhostfs: error: bad\n", target.ToString());
    }
}
