// What a SCSI disk says of itself and does, past the sd driver: commands through SG_IO.
//   scsi-check DEVICE      every answer is as it must be; the first 64 blocks are overwritten
#define _GNU_SOURCE
#include <fcntl.h>
#include <scsi/sg.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { GOOD = 0, CHECK = 2, CONFLICT = 0x18 };

static int fd;
static unsigned char data[65536];
static unsigned char sense[32];
static unsigned checks;

static _Noreturn void fail(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	fputs("FAIL ", stdout);
	vprintf(format, arguments);
	putchar('\n');
	exit(1);
}

// Status; the bytes that came are in `data`, how many in *got.
static int command(const unsigned char *cdb, int length, int direction, int bytes, int *got)
{
	struct sg_io_hdr io = {
		.interface_id = 'S', .dxfer_direction = direction, .cmd_len = length, .mx_sb_len = sizeof sense,
		.dxfer_len = bytes, .dxferp = data, .cmdp = (unsigned char *)cdb, .sbp = sense, .timeout = 30000,
	};
	memset(sense, 0, sizeof sense);
	if (ioctl(fd, SG_IO, &io)) { perror("SG_IO"); exit(1); }
	if (io.host_status) fail("host status %u of %02x", io.host_status, cdb[0]);
	if (got) *got = bytes - io.resid;
	return io.status;
}

#define CDB(...) ((const unsigned char[]){ __VA_ARGS__ }), sizeof((const unsigned char[]){ __VA_ARGS__ })

static void expect(const char *what, bool is)
{
	if (!is) fail("%s (sense %x/%02x/%02x)", what, sense[2], sense[12], sense[13]);
	checks++;
}

static bool refused(int status, int key, int code) { return status == CHECK && (sense[0] & 0x7f) == 0x70 && sense[2] == key && sense[12] == code; }

static uint32_t be32(const unsigned char *at) { return (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3]; }

static void identity(void)
{
	int got;
	expect("INQUIRY", command(CDB(0x12, 0, 0, 0, 96, 0), SG_DXFER_FROM_DEV, 255, &got) == GOOD && got == 96 && !memcmp(data + 8, "VHOSTFS ", 8));
	for (const unsigned char *page = (const unsigned char *)"\x00\x80\x83\xb0\xb1\xb2", *end = page + 6; page < end; page++)
		expect("a page of vital product data", command(CDB(0x12, 1, *page, 0, 255, 0), SG_DXFER_FROM_DEV, 255, &got) == GOOD && data[1] == *page && got == data[3] + 4);
	expect("a page that is not there", refused(command(CDB(0x12, 1, 0xb5, 0, 255, 0), SG_DXFER_FROM_DEV, 255, &got), 5, 0x24));
	expect("REPORT LUNS", command(CDB(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0), SG_DXFER_FROM_DEV, 16, &got) == GOOD && got == 16 && be32(data) == 8);
	expect("MODE SENSE", command(CDB(0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 255, 0), SG_DXFER_FROM_DEV, 255, &got) == GOOD && got == data[1] + 2);
	expect("operation codes", command(CDB(0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0), SG_DXFER_FROM_DEV, 4096, &got) == GOOD && got == (int)be32(data) + 4);
	expect("an operation code that is not there", refused(command(CDB(0xc1, 0, 0, 0, 0, 0, 0, 0, 0, 0), SG_DXFER_NONE, 0, NULL), 5, 0x20));
	expect("REQUEST SENSE", command(CDB(0x03, 0, 0, 0, 18, 0), SG_DXFER_FROM_DEV, 18, &got) == GOOD && got == 18 && data[2] == 0);
}

static void medium(void)
{
	int got;
	expect("READ CAPACITY (16)", command(CDB(0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0), SG_DXFER_FROM_DEV, 32, &got) == GOOD && got == 32);
	uint32_t last = be32(data + 4), block = be32(data + 8);
	memset(data, 0x5a, 8 * block);
	expect("WRITE (10) with FUA", command(CDB(0x2a, 8, 0, 0, 0, 4, 0, 0, 8, 0), SG_DXFER_TO_DEV, 8 * block, NULL) == GOOD);
	expect("VERIFY (10) against data", command(CDB(0x2f, 2, 0, 0, 0, 4, 0, 0, 8, 0), SG_DXFER_TO_DEV, 8 * block, NULL) == GOOD);
	data[block + 3]++;
	expect("a miscompare", refused(command(CDB(0x2f, 2, 0, 0, 0, 4, 0, 0, 8, 0), SG_DXFER_TO_DEV, 8 * block, NULL), 14, 0x1d) && be32(sense + 3) == block + 3);
	memset(data, 0xa5, block);
	expect("WRITE SAME (16)", command(CDB(0x93, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0), SG_DXFER_TO_DEV, block, NULL) == GOOD);
	expect("READ (16)", command(CDB(0x88, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0), SG_DXFER_FROM_DEV, 4 * block, &got) == GOOD && got == (int)(4 * block));
	expect("what was written", data[0] == 0x5a && data[block] == 0xa5 && data[3 * block - 1] == 0xa5 && data[3 * block] == 0x5a);
	memset(data, 0, 24);
	data[1] = 22, data[3] = 16, data[15] = 5, data[19] = 1;
	expect("UNMAP", command(CDB(0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0), SG_DXFER_TO_DEV, 24, NULL) == GOOD);
	expect("READ (10)", command(CDB(0x28, 0, 0, 0, 0, 5, 0, 0, 1, 0), SG_DXFER_FROM_DEV, block, &got) == GOOD);
	expect("SYNCHRONIZE CACHE", command(CDB(0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0), SG_DXFER_NONE, 0, NULL) == GOOD);
	last++;
	expect("a block behind the end", refused(command(CDB(0x28, 0, last >> 24, last >> 16, last >> 8, last, 0, 0, 1, 0), SG_DXFER_FROM_DEV, block, &got), 5, 0x21) && be32(sense + 3) == last);
}

static int reserve(int action, int type, int key, int service_key)
{
	memset(data, 0, 24);
	data[7] = key, data[15] = service_key;
	return command(CDB(0x5f, action, type, 0, 0, 0, 0, 0, 24, 0), SG_DXFER_TO_DEV, 24, NULL);
}

static void reservations(void)
{
	int got;
	expect("register", reserve(0, 0, 0, 7) == GOOD);
	expect("a wrong key", reserve(1, 1, 8, 0) == CONFLICT);
	expect("reserve", reserve(1, 1, 7, 0) == GOOD);
	expect("READ KEYS", command(CDB(0x5e, 0, 0, 0, 0, 0, 0, 0, 255, 0), SG_DXFER_FROM_DEV, 255, &got) == GOOD && got == 16 && data[15] == 7);
	expect("READ RESERVATION", command(CDB(0x5e, 1, 0, 0, 0, 0, 0, 0, 255, 0), SG_DXFER_FROM_DEV, 255, &got) == GOOD && got == 24 && data[21] == 1);
	expect("release", reserve(2, 1, 7, 0) == GOOD);
	expect("clear", reserve(3, 0, 7, 0) == GOOD);
	expect("no keys", command(CDB(0x5e, 0, 0, 0, 0, 0, 0, 0, 255, 0), SG_DXFER_FROM_DEV, 255, &got) == GOOD && got == 8);
}

int main(int count, char **arguments)
{
	if (count != 2) fail("usage: scsi-check DEVICE");
	setvbuf(stdout, NULL, _IOLBF, 0);
	fd = open(arguments[1], O_RDWR);
	if (fd < 0) { perror(arguments[1]); return 1; }
	identity();
	medium();
	reservations();
	printf("ok scsi %u checks\n", checks);
	return 0;
}
