/*
 * disk: the disks of this machine, what is on them, and whether they keep what they are given.
 *   disk                              lists them
 *   disk read N [COUNT [DISK]]        sector N: hex and text; of more than 4, a checksum (CRC-32)
 *   disk write N TEXT [DISK]          TEXT, the rest of the sector zero; and flushes
 *   disk check [SECTORS [DISK [PROCESSES]]]
 *                                     overwrites them with a pattern, and compares what is read;
 * each process has its part of them, and all work at once
 */
#include "guest/user/lib/lib.h"

#define SECTOR         SYS_SECTOR_SIZE
#define SHOWN_MAX      4u
#define AT_ONCE        256u /* sectors that `read` reads at once */
#define CHECK_MOST     600u /* sectors of a transfer of `check`: more than one request */
#define ROUNDS         64u
#define MOST_PROCESSES 16u

static const char usage[] = "usage: disk | disk read N [COUNT [DISK]] | disk write N TEXT [DISK] | "
                            "disk check [SECTORS [DISK [PROCESSES]]]";

static struct sys_disk disk_info(uint64_t disk)
{
    struct sys_disk info = { 0 };
    long rc = sys_block(SYS_BLOCK_SIZE, disk, 0, &info, 0);

    if (rc == -ENODEV)
        die(1, disk == 0 ? "there is no disk: --disk" : "there is no disk %lu", disk);
    if (rc < 0)
        die(1, "disk %lu: error %ld", disk, -rc);
    return info;
}

/* A transfer that must succeed. */
static void transfer(enum sys_block_op op, uint64_t disk, uint64_t sector, void *buf,
                     uint64_t sectors)
{
    const char *what = op == SYS_BLOCK_READ ? "read" : "write";
    struct sys_disk info = disk_info(disk);
    long rc = sys_block(op, disk, sector, buf, sectors);

    if (rc == -EINVAL)
        die(1, "disk %lu: can't %s %lu sectors from sector %lu on: it has %lu", disk, what, sectors,
            sector, info.sectors);
    if (rc == -EROFS)
        die(1, "disk %lu is read-only", disk);
    if (rc != (long)sectors)
        die(1, "disk %lu: can't %s sector %lu, error %ld", disk, what, sector, -rc);
}

static int list(void)
{
    struct sys_disk d = { 0 };
    unsigned n;

    for (n = 0; sys_block(SYS_BLOCK_SIZE, n, 0, &d, 0) >= 0; n++)
        printf("disk %u: %02x:%02x.%u, %lu sectors (%lu KiB)%s%s\n", n, SYS_PCI_BUS(d.bdf),
               SYS_PCI_DEVICE(d.bdf), SYS_PCI_FUNCTION(d.bdf), d.sectors, d.sectors / 2,
               d.read_only ? ", read-only" : "", d.flushes ? ", flushes" : "");
    if (n == 0)
        disk_info(0);
    return 0;
}

/* --- read and write ---------------------------------------------------------------- */

static void print_text(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        printf("%c", p[i] >= ' ' && p[i] <= '~' ? p[i] : '.');
}

static void dump(const uint8_t *p, size_t len, uint64_t offset)
{
    for (size_t i = 0; i < len; i += 16) {
        printf("%08lx ", (unsigned long)(offset + i));
        for (size_t k = 0; k < 16; k++)
            printf(" %02x", p[i + k]);
        printf("  ");
        print_text(p + i, 16);
        printf("\n");
    }
}

/* CRC-32 as in zip, cksum of which is in every tool box: IEEE 802.3, reflected. */
static uint32_t crc32(uint32_t crc, const uint8_t *p, size_t n)
{
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static int read_sectors(uint64_t disk, uint64_t sector, uint64_t count)
{
    uint8_t *buf = map_pages(AT_ONCE * SECTOR, PAGE_SIZE);
    uint64_t done = 0;
    uint32_t crc = 0;

    do { /* once at least: reading no sectors is refused by the kernel */
        uint64_t n = count - done < AT_ONCE ? count - done : AT_ONCE;

        transfer(SYS_BLOCK_READ, disk, sector + done, buf, n);
        if (count <= SHOWN_MAX)
            dump(buf, n * SECTOR, (sector + done) * SECTOR);
        crc = crc32(crc, buf, n * SECTOR);
        done += n;
    } while (done < count);
    printf("disk %lu: sectors %lu to %lu, CRC-32 %08x\n", disk, sector, sector + count - 1, crc);
    return 0;
}

static int write_text(uint64_t disk, uint64_t sector, const char *text)
{
    char *buf = map_pages(PAGE_SIZE, PAGE_SIZE);
    size_t len = strlen(text);
    long rc;

    if (len > SECTOR)
        die(2, "a sector takes %u characters, not %lu", SECTOR, len);
    memcpy(buf, text, len + 1);
    transfer(SYS_BLOCK_WRITE, disk, sector, buf, 1);
    rc = sys_block(SYS_BLOCK_FLUSH, disk, 0, NULL, 0);
    if (rc != 0)
        die(1, "disk %lu: can't flush, error %ld", disk, -rc);
    printf("disk %lu: sector %lu written\n", disk, sector);
    return 0;
}

/* --- check ------------------------------------------------------------------------- */

/* What word `i` of a sector has to be, `version` times after it was written first. */
static uint64_t pattern(uint64_t sector, unsigned i, uint32_t version)
{
    uint64_t x = sector << 20 | (uint64_t)version << 6 | i;

    return (x + 1) * 0x9e3779b97f4a7c15ul;
}

static void put_pattern(uint64_t *buf, uint64_t sector, uint64_t n, const uint32_t *version)
{
    for (uint64_t s = 0; s < n; s++)
        for (unsigned i = 0; i < SECTOR / 8; i++)
            buf[s * (SECTOR / 8) + i] = pattern(sector + s, i, version[sector + s]);
}

static void compare(const uint64_t *buf, uint64_t sector, uint64_t n, const uint32_t *version)
{
    for (uint64_t s = 0; s < n; s++)
        for (unsigned i = 0; i < SECTOR / 8; i++) {
            uint64_t want = pattern(sector + s, i, version[sector + s]);
            uint64_t got = buf[s * (SECTOR / 8) + i];

            if (got != want)
                die(1, "sector %lu, byte %u: read %lx, wrote %lx", sector + s, i * 8, got, want);
        }
}

/* A part of a disk, and how often each of its sectors was written after the first time. */
struct part {
    uint64_t disk, first, sectors;
    uint32_t *version; /* by sector of the disk */
    uint8_t *room;
};

/* Transfers of random place and size, at a random sector of the buffer; a third of them write. */
static void transfers(const struct part *p)
{
    uint64_t state = p->first + 1;

    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t at = next_random(&state) % p->sectors, most = p->sectors - at;
        uint64_t n = next_random(&state) % (most < CHECK_MOST ? most : CHECK_MOST) + 1;
        uint64_t *buf = (uint64_t *)(p->room + next_random(&state) % 8 * SECTOR);
        uint64_t sector = p->first + at;

        if (next_random(&state) % 3 == 0) {
            for (uint64_t s = 0; s < n; s++)
                p->version[sector + s]++;
            put_pattern(buf, sector, n, p->version);
            transfer(SYS_BLOCK_WRITE, p->disk, sector, buf, n);
        } else {
            memset(buf, 0xa5, n * SECTOR);
            transfer(SYS_BLOCK_READ, p->disk, sector, buf, n);
            compare(buf, sector, n, p->version);
        }
    }
}

/* All its sectors, in pieces: written, or read and compared. */
static void whole(enum sys_block_op op, const struct part *p)
{
    uint64_t *buf = (uint64_t *)p->room, end = p->first + p->sectors;

    for (uint64_t sector = p->first; sector < end;) {
        uint64_t n = end - sector < CHECK_MOST ? end - sector : CHECK_MOST;

        if (op == SYS_BLOCK_WRITE)
            put_pattern(buf, sector, n, p->version);
        transfer(op, p->disk, sector, buf, n);
        if (op == SYS_BLOCK_READ)
            compare(buf, sector, n, p->version);
        sector += n;
    }
}

static void check_part(const struct part *p)
{
    whole(SYS_BLOCK_WRITE, p);
    transfers(p);
    whole(SYS_BLOCK_READ, p);
}

/* Each process has a part, and all work at once. */
static void check_parts(const struct part *all, uint64_t processes)
{
    long pid[MOST_PROCESSES];
    int bad = 0;

    for (uint64_t i = 0; i < processes; i++) {
        struct part p = *all;

        p.first = all->sectors * i / processes;
        p.sectors = all->sectors * (i + 1) / processes - p.first;
        pid[i] = fork_flushed(0);
        if (pid[i] == 0) {
            check_part(&p);
            exit(0);
        }
        if (pid[i] < 0)
            die(1, "can't fork, error %ld", -pid[i]);
    }
    for (uint64_t i = 0; i < processes; i++)
        bad |= wait_for(pid[i]).code;
    if (bad)
        die(1, "a process found what it did not write");
}

static int check_disk(uint64_t disk, uint64_t sectors, uint64_t processes)
{
    uint64_t len = (CHECK_MOST + 8) * SECTOR, size = disk_info(disk).sectors;
    struct part p = { .disk = disk };

    p.sectors = sectors ? sectors : size < 4096 ? size : 4096;
    if (p.sectors > size)
        die(1, "disk %lu has %lu sectors, not %lu", disk, size, sectors);
    if (processes == 0 || processes > MOST_PROCESSES || processes > p.sectors)
        die(2, "1 to %u processes, not %lu", MOST_PROCESSES, processes);
    p.room = map_pages((len + PAGE_SIZE - 1) & -PAGE_SIZE, PAGE_SIZE);
    p.version = calloc(p.sectors, sizeof(*p.version));
    if (!p.version)
        die(1, "no memory");
    if (processes == 1)
        check_part(&p);
    else
        check_parts(&p, processes);
    printf("disk %lu: %lu sectors, %lu transfers at random, all read back right\n", disk, p.sectors,
           ROUNDS * processes);
    return 0;
}

/* --- arguments --------------------------------------------------------------------- */

/* Argument `i`, or what it is when it is not given. */
static uint64_t number(int argc, char **argv, int i, uint64_t missing)
{
    uint64_t value = missing;

    if (i < argc && !parse_size(argv[i], &value))
        die(2, "%s", usage);
    return value;
}

int main(int argc, char **argv)
{
    if (argc == 1)
        return list();
    if (strcmp(argv[1], "read") == 0 && argc >= 3 && argc <= 5)
        return read_sectors(number(argc, argv, 4, 0), number(argc, argv, 2, 0),
                            number(argc, argv, 3, 1));
    if (strcmp(argv[1], "write") == 0 && argc >= 4 && argc <= 5)
        return write_text(number(argc, argv, 4, 0), number(argc, argv, 2, 0), argv[3]);
    if (strcmp(argv[1], "check") == 0 && argc <= 5)
        return check_disk(number(argc, argv, 3, 0), number(argc, argv, 2, 0),
                          number(argc, argv, 4, 1));
    die(2, "%s", usage);
}
