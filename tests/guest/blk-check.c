// A disk that keeps what is written to it: on a block device in a guest, or on the file behind it.
//   blk-check fill SEED DEVICE            write every block, in an order drawn from the seed, in pieces of many sizes; sync
//   blk-check verify SEED DEVICE          every block is as fill left it
//   blk-check hold SEED DEVICE            the same of what was read, all of it, at the first line of input, and is looked at only at the second
//   blk-check mix SEED COUNT DEVICE       writes, reads, zeroes, discards and syncs against a copy in memory
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 4096, MAX_PIECE = 256 * BLOCK };

static uint64_t state;

static uint64_t draw(void) // splitmix64
{
	uint64_t z = state += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static _Noreturn void fail(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	fputs("FAIL ", stdout);
	vprintf(format, arguments);
	printf(" (%s)\n", strerror(errno));
	exit(1);
}

static void *aligned(size_t bytes)
{
	void *memory;
	if (posix_memalign(&memory, BLOCK, bytes)) fail("no memory for %zu bytes", bytes);
	return memory;
}

static uint64_t size_of(int fd)
{
	struct stat status;
	uint64_t bytes;
	if (fstat(fd, &status)) fail("fstat");
	if (!S_ISBLK(status.st_mode)) return status.st_size;
	if (ioctl(fd, BLKGETSIZE64, &bytes)) fail("BLKGETSIZE64");
	return bytes;
}

static void pattern(uint64_t seed, uint64_t block, unsigned char *target)
{
	state = seed * 1000003 + block;
	for (int i = 0; i < BLOCK; i += 8) {
		uint64_t word = draw();
		memcpy(target + i, &word, 8);
	}
}

static void put(int fd, const void *from, size_t bytes, uint64_t at)
{
	if (pwrite(fd, from, bytes, at) != (ssize_t)bytes) fail("writing %zu bytes at %llu", bytes, (unsigned long long)at);
}

static void get(int fd, void *to, size_t bytes, uint64_t at)
{
	if (pread(fd, to, bytes, at) != (ssize_t)bytes) fail("reading %zu bytes at %llu", bytes, (unsigned long long)at);
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t rest = a % b;
		a = b;
		b = rest;
	}
	return a;
}

static void fill(uint64_t seed, int fd, uint64_t blocks)
{
	unsigned char *piece = aligned(MAX_PIECE);
	uint64_t pieces = (blocks + MAX_PIECE / BLOCK - 1) / (MAX_PIECE / BLOCK), step = pieces * 5 / 8 + 1;
	while (common_divisor(step, pieces) != 1) step++; // so that every piece has its turn, and not in order
	for (uint64_t i = 0; i < pieces; i++) {
		uint64_t first = i * step % pieces * (MAX_PIECE / BLOCK), limit = first + MAX_PIECE / BLOCK < blocks ? first + MAX_PIECE / BLOCK : blocks;
		while (first < limit) {
			state = seed + first;
			uint64_t count = 1 + draw() % 64;
			if (count > limit - first) count = limit - first;
			for (uint64_t k = 0; k < count; k++) pattern(seed, first + k, piece + k * BLOCK);
			put(fd, piece, count * BLOCK, first * BLOCK);
			first += count;
		}
	}
	if (fsync(fd)) fail("fsync");
}

static void verify(uint64_t seed, int fd, uint64_t blocks)
{
	unsigned char *piece = aligned(MAX_PIECE), expected[BLOCK];
	for (uint64_t first = 0; first < blocks; first += MAX_PIECE / BLOCK) {
		uint64_t count = blocks - first < MAX_PIECE / BLOCK ? blocks - first : MAX_PIECE / BLOCK;
		get(fd, piece, count * BLOCK, first * BLOCK);
		for (uint64_t k = 0; k < count; k++) {
			pattern(seed, first + k, expected);
			if (memcmp(expected, piece + k * BLOCK, BLOCK)) fail("block %llu is not what was written", (unsigned long long)(first + k));
		}
	}
}

static void wait_for_line(const char *done)
{
	printf("ok %s\n", done);
	for (int c; (c = getchar()) != '\n';)
		if (c == EOF) fail("no more input");
}

// Between the two lines only the disk has written to this memory: what becomes of it there is not hidden by our own writes.
static void hold(uint64_t seed, int fd, uint64_t blocks)
{
	unsigned char *all = aligned(blocks * BLOCK), expected[BLOCK];
	memset(all, 0xee, blocks * BLOCK);
	wait_for_line("ready");
	for (uint64_t at = 0; at < blocks; at += MAX_PIECE / BLOCK) get(fd, all + at * BLOCK, (blocks - at < MAX_PIECE / BLOCK ? blocks - at : MAX_PIECE / BLOCK) * BLOCK, at * BLOCK);
	wait_for_line("held");
	for (uint64_t k = 0; k < blocks; k++) {
		pattern(seed, k, expected);
		if (memcmp(expected, all + k * BLOCK, BLOCK)) fail("block %llu is not what was read", (unsigned long long)k);
	}
}

static void mix(uint64_t seed, long count, int fd, uint64_t blocks)
{
	unsigned char *copy = aligned(blocks * BLOCK), *piece = aligned(MAX_PIECE);
	bool *unknown = calloc(blocks, 1); // discarded: anything may be read
	uint64_t choices = seed;
	get(fd, copy, BLOCK, 0);
	memset(copy, 0, blocks * BLOCK);
	for (uint64_t at = 0; at < blocks; at += MAX_PIECE / BLOCK) put(fd, copy, (blocks - at < MAX_PIECE / BLOCK ? blocks - at : MAX_PIECE / BLOCK) * BLOCK, at * BLOCK);
	for (long i = 0; i < count; i++) {
		state = choices += 0x632be59bd9b4e019;
		uint64_t kind = draw() % 10, first = draw() % blocks, length = 1 + draw() % 40, offset = draw() % 8;
		if (length > blocks - first) length = blocks - first;
		uint64_t range[2] = { first * BLOCK, length * BLOCK };
		if (kind < 4) {
			for (uint64_t k = 0; k < length; k++) pattern(seed + i, first + k, piece + k * BLOCK);
			put(fd, piece, range[1], range[0]);
			memcpy(copy + range[0], piece, range[1]);
			memset(unknown + first, 0, length);
		} else if (kind < 8) {
			unsigned char *unaligned = piece + offset * 512; // memory need not begin where a page does
			get(fd, unaligned, range[1], range[0]);
			for (uint64_t k = 0; k < length; k++)
				if (!unknown[first + k] && memcmp(copy + range[0] + k * BLOCK, unaligned + k * BLOCK, BLOCK)) fail("operation %ld: block %llu is wrong", i, (unsigned long long)(first + k));
		} else if (kind == 8 && offset < 4) {
			if (ioctl(fd, BLKZEROOUT, range)) fail("operation %ld: BLKZEROOUT", i);
			memset(copy + range[0], 0, range[1]);
			memset(unknown + first, 0, length);
		} else if (kind == 8) {
			if (ioctl(fd, BLKDISCARD, range)) fail("operation %ld: BLKDISCARD", i);
			memset(unknown + first, 1, length);
		} else if (fsync(fd)) fail("operation %ld: fsync", i);
	}
}

int main(int argc, char **argv)
{
	bool is_mix = argc == 5 && !strcmp(argv[1], "mix");
	if (!is_mix && !(argc == 4 && (!strcmp(argv[1], "fill") || !strcmp(argv[1], "verify") || !strcmp(argv[1], "hold")))) {
		fputs("usage: blk-check fill|verify|hold SEED DEVICE | mix SEED COUNT DEVICE\n", stderr);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	uint64_t seed = strtoull(argv[2], NULL, 0);
	int fd = open(argv[argc - 1], (argv[1][0] == 'v' || argv[1][0] == 'h' ? O_RDONLY : O_RDWR) | O_DIRECT);
	if (fd < 0) fail("open %s", argv[argc - 1]);
	uint64_t blocks = size_of(fd) / BLOCK;
	if (is_mix) mix(seed, atol(argv[3]), fd, blocks);
	else if (argv[1][0] == 'f') fill(seed, fd, blocks);
	else if (argv[1][0] == 'h') hold(seed, fd, blocks);
	else verify(seed, fd, blocks);
	printf("ok %s %llu blocks\n", argv[1], (unsigned long long)blocks);
	return 0;
}
