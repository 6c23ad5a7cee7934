using System.Security.Cryptography;
using System.Text.Json.Nodes;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Rpc;

namespace VhostFs.Block;

/// <summary>bdev_crypto_create, bdev_crypto_delete, and the keys that they name: accel_crypto_key_create and its kin. AES_XTS only.</summary>
internal sealed class CryptoMethods(BdevRegistry bdevs, ControlTurn turn)
{
    private const string Cipher = "AES_XTS";
    private static readonly RpcRefusal s_wrong = new(RpcErrorCode.ParseError, "spdk_json_decode_object failed");

    private readonly Dictionary<string, CryptoKey> _keys = new(StringComparer.Ordinal);

    public Dictionary<string, RpcMethod> Methods => new(StringComparer.Ordinal)
    {
        ["accel_crypto_key_create"] = turn.Whole(CreateKeyAsync),
        ["accel_crypto_key_destroy"] = turn.Whole(DestroyKeyAsync),
        ["accel_crypto_keys_get"] = turn.Whole(GetKeysAsync),
        ["bdev_crypto_create"] = turn.Whole(CreateAsync),
        ["bdev_crypto_delete"] = DeleteAsync,
    };

    /// <summary>What makes the keys again. They are in it, as in what SPDK saves: whoever keeps it keeps the keys.</summary>
    public IEnumerable<JsonObject> SavedCalls() => _keys.Values.Select(k => SavedCall.Of("accel_crypto_key_create", k.ToJson()));

    /// <summary>The end: keys do not stay in memory longer than what they are for.</summary>
    public void Clear()
    {
        foreach (CryptoKey key in _keys.Values) { key.Clear(); }
        _keys.Clear();
    }

    private Task<object?> CreateKeyAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string name = parameters.Text("name"), cipher = parameters.Text("cipher"), key = parameters.Text("key"), key2 = parameters.Text("key2");
        string tweakMode = parameters.OptionalText("tweak_mode") ?? "SIMPLE_LBA";
        parameters.End();
        if (!cipher.Equals(Cipher, StringComparison.OrdinalIgnoreCase)) { throw RpcException.InvalidParams(Errno.EINVAL, $"there is no cipher '{cipher}'; there is {Cipher}"); }
        if (tweakMode != "SIMPLE_LBA") { throw RpcException.InvalidParams(Errno.EINVAL, $"there is no tweak mode '{tweakMode}'; there is SIMPLE_LBA"); }
        if (_keys.ContainsKey(name) || name.Length == 0) { throw RpcException.InvalidParams(Errno.EINVAL, $"there is a key '{name}' already, or it has no name"); }
        var made = new CryptoKey(name, Bytes(key), Bytes(key2));
        if (made.Problem is { } problem) { throw RpcException.InvalidParams(Errno.EINVAL, problem); }
        _keys.Add(name, made);
        return Task.FromResult<object?>(true);

        static byte[] Bytes(string hex)
        {
            try { return Convert.FromHexString(hex); }
            catch (FormatException) { throw RpcException.InvalidParams(Errno.EINVAL, "a key is written in hexadecimal digits"); }
        }
    }

    private Task<object?> DestroyKeyAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string name = parameters.Text("key_name");
        parameters.End();
        CryptoKey key = FindKey(name);
        if (bdevs.All.FirstOrDefault(b => b.Module == BdevModule.Crypto && key.Users.Contains(b)) is { } user) { throw RpcException.Of(Errno.EBUSY, $"key '{name}' is used by bdev {user.Name}"); }
        key.Clear();
        _keys.Remove(name);
        return Task.FromResult<object?>(true);
    }

    // Without the keys themselves, unlike SPDK: who saves the configuration has them.
    private Task<object?> GetKeysAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string? name = parameters.OptionalText("key_name");
        parameters.End();
        return Task.FromResult<object?>((name is null ? [.. _keys.Values] : new[] { FindKey(name) }).Select(k => new Dictionary<string, object> { ["name"] = k.Name, ["cipher"] = Cipher, ["tweak_mode"] = "SIMPLE_LBA" }).ToArray());
    }

    private async Task<object?> CreateAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string name = parameters.Text("name"), baseName = parameters.Text("base_bdev_name");
        CryptoKey key = FindKey(parameters.Text("key_name"));
        Guid uuid = parameters.Uuid("uuid");
        parameters.End();
        RegisteredBdev below = bdevs.Find(baseName) ?? throw RpcException.Of(Errno.ENODEV, $"there is no bdev '{baseName}'");
        RegisteredBdev made = await bdevs.StackAsync(call, BdevModule.Crypto, name, uuid, below, () => new CryptoBdev(below.Bdev, name, key.NewCipher()) { OwnsInner = false },
            _ => new Dictionary<string, object> { ["crypto"] = new Dictionary<string, object> { ["base_bdev_name"] = below.Name, ["name"] = name, ["key_name"] = key.Name } });
        key.Users.RemoveAll(b => !bdevs.All.Contains(b));
        key.Users.Add(made);
        return name;
    }

    private async Task<object?> DeleteAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string name = parameters.Text("name");
        parameters.End();
        await bdevs.DeleteAsync(turn, () => bdevs.Find(name) is { Module: BdevModule.Crypto } bdev ? bdev : throw RpcException.Of(Errno.ENODEV, $"there is no crypto bdev '{name}'"));
        return true;
    }

    private CryptoKey FindKey(string name) => _keys.GetValueOrDefault(name) ?? throw RpcException.Of(Errno.ENOENT, $"there is no key '{name}'; accel_crypto_key_create makes one");

    private sealed class CryptoKey(string name, byte[] dataKey, byte[] tweakKey)
    {
        public string Name => name;

        public List<RegisteredBdev> Users { get; } = [];

        /// <summary>Null: it can be one.</summary>
        public string? Problem => dataKey.Length is not (16 or 32) || tweakKey.Length != dataKey.Length ? "both keys have 16 bytes, or both 32"
            : CryptographicOperations.FixedTimeEquals(dataKey, tweakKey) ? "the two keys must differ" : null;

        public XtsCipher NewCipher() => new(dataKey, tweakKey);

        public JsonObject ToJson() => new() { ["name"] = name, ["cipher"] = Cipher, ["key"] = Convert.ToHexStringLower(dataKey), ["key2"] = Convert.ToHexStringLower(tweakKey) };

        public void Clear()
        {
            CryptographicOperations.ZeroMemory(dataKey);
            CryptographicOperations.ZeroMemory(tweakKey);
        }
    }
}
