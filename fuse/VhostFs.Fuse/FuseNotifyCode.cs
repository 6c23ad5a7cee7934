namespace VhostFs.Fuse;

/// <summary><c>enum fuse_notify_code</c>: what a server tells the kernel of its own accord, as the "error" of a message with unique number 0.</summary>
public enum FuseNotifyCode
{
    POLL = 1,
    INVAL_INODE = 2,
    INVAL_ENTRY = 3,
    STORE = 4,
    RETRIEVE = 5,
    DELETE = 6,
    RESEND = 7,
}
