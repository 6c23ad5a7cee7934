using System.Text.Json.Nodes;

namespace VhostFs.ProgramTests;

/// <summary>Keys and encrypted bdevs over the control socket.</summary>
public sealed class CryptoRpcTests : BlockRpcFixture
{
    private const string Key = """{"name":"k","cipher":"AES_XTS","key":"000102030405060708090a0b0c0d0e0f","key2":"101112131415161718191a1b1c1d1e1f"}""";

    [Fact]
    public async Task A_key_and_its_bdev_from_beginning_to_end()
    {
        await PlayAsync(
            ("accel_crypto_key_create", Key, "true"),
            ("accel_crypto_keys_get", "null", """[{"name":"k","cipher":"AES_XTS","tweak_mode":"SIMPLE_LBA"}]"""),
            ("bdev_malloc_create", """{"num_blocks":16384,"block_size":4096,"name":"M0"}""", "*"),
            ("bdev_crypto_create", $$"""{"base_bdev_name":"M0","name":"C0","key_name":"k","uuid":"{{Uuid0}}"}""", "\"C0\""),
            ("bdev_get_bdevs", """{"name":"C0"}""", $"[{Shown("C0", "crypto", 4096, 16384, Uuid0, """{"crypto":{"base_bdev_name":"M0","name":"C0","key_name":"k"} }""")}]"),
            ("accel_crypto_key_destroy", """{"key_name":"k"}""", Error(-16, "Device or resource busy")),
            ("fs_create_pool", """{"bdev_name":"C0","pool_name":"p"}""", "true")); // a pool on it works: what is read was written
        JsonArray accel = (await CallAsync("framework_get_config", """{"name":"accel"}"""))["result"]!.AsArray();
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(Key), accel.Single()!["params"]), accel.ToJsonString());
        await PlayAsync(
            ("fs_close_pool", """{"pool_name":"p"}""", "true"),
            ("bdev_crypto_delete", """{"name":"C0"}""", "true"),
            ("accel_crypto_key_destroy", """{"key_name":"k"}""", "true"),
            ("accel_crypto_keys_get", "null", "[]"));
        Assert.DoesNotContain("0a0b0c0d", LogText, StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    public Task What_cannot_be_is_refused() => PlayAsync(
        ("bdev_malloc_create", """{"num_blocks":16,"block_size":4096,"name":"M0"}""", "*"),
        ("accel_crypto_key_create", Key.Replace("AES_XTS", "AES_CBC", StringComparison.Ordinal), Error(-32602, "Invalid argument")),
        ("accel_crypto_key_create", Key.Replace("000102", "", StringComparison.Ordinal), Error(-32602, "Invalid argument")),
        ("accel_crypto_key_create", Key.Replace("000102", "zz0102", StringComparison.Ordinal), Error(-32602, "Invalid argument")),
        ("accel_crypto_key_create", Key.Replace("10111213141516171819", "00010203040506070809", StringComparison.Ordinal).Replace("1a1b1c1d1e1f", "0a0b0c0d0e0f", StringComparison.Ordinal), Error(-32602, "Invalid argument")),
        ("accel_crypto_key_create", """{"name":"k"}""", Error(-32700, "spdk_json_decode_object failed")),
        ("bdev_crypto_create", """{"base_bdev_name":"M0","name":"C0","key_name":"k"}""", Error(-2, "No such file or directory")),
        ("accel_crypto_key_create", Key, "true"),
        ("accel_crypto_key_create", Key, Error(-32602, "Invalid argument")),
        ("bdev_crypto_create", """{"base_bdev_name":"none","name":"C0","key_name":"k"}""", Error(-19, "No such device")),
        ("bdev_crypto_create", """{"base_bdev_name":"M0","name":"M0","key_name":"k"}""", Error(-17, "File exists")),
        ("bdev_crypto_delete", """{"name":"M0"}""", Error(-19, "No such device")),
        ("accel_crypto_key_destroy", """{"key_name":"none"}""", Error(-2, "No such file or directory")));
}
