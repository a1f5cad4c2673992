#include "guest/kernel/virtio_blk.h"

#include <stddef.h>

#include "guest/kernel/cpu.h"
#include "guest/kernel/drivers.h"
#include "guest/kernel/errno.h"
#include "guest/kernel/hold.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/mmio.h"
#include "guest/kernel/printk.h"
#include "guest/kernel/usercopy.h"
#include "guest/kernel/virtio.h"
#include "guest/sys.h"

#define DEVICE_TYPE 2
#define DISKS_MAX   8

#define F_SIZE_MAX (UINT64_C(1) << 1)
#define F_SEG_MAX  (UINT64_C(1) << 2)
#define F_RO       (UINT64_C(1) << 5)
#define F_FLUSH    (UINT64_C(1) << 9)

/* 5.2.4 "Device configuration layout". */
enum { CONFIG_CAPACITY = 0, CONFIG_SIZE_MAX = 8, CONFIG_SEG_MAX = 12 };

enum { TYPE_IN = 0, TYPE_OUT = 1, TYPE_FLUSH = 4 };
enum { STATUS_OK = 0, STATUS_UNSUPPORTED = 2 };

#define SIZE_MAX_USED 0x40000000u /* of a piece, where the device sets no limit */

/* A request's own memory: a page, so that the device is shown nothing else. */
struct request_page {
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } head;
    volatile uint8_t status;
};

struct disk {
    struct virtio *v;
    uint64_t sectors;
    uint32_t piece_max; /* bytes, a multiple of the sector size */
    uint32_t pieces_max;
    bool read_only, flushes;
};

static struct disk disks[DISKS_MAX];
static unsigned n_disks;

static void read_config(struct disk *d)
{
    volatile uint8_t *config = virtio_config(d->v);
    uint64_t features = virtio_features(d->v);
    uint32_t v;

    d->sectors = virtio_config64(d->v, CONFIG_CAPACITY);
    d->piece_max = SIZE_MAX_USED;
    d->pieces_max = HOLD_MAX;
    if (features & F_SIZE_MAX) {
        v = mmio_read32(config + CONFIG_SIZE_MAX) & -SYS_SECTOR_SIZE;
        if (v && v < d->piece_max)
            d->piece_max = v;
    }
    if (features & F_SEG_MAX) {
        v = mmio_read32(config + CONFIG_SEG_MAX);
        if (v && v < d->pieces_max)
            d->pieces_max = v;
    }
    d->read_only = features & F_RO;
    d->flushes = features & F_FLUSH;
}

static int open_disk(struct disk *d, struct pci_device *pci)
{
    int rc;

    d->v = virtio_open(pci, F_SIZE_MAX | F_SEG_MAX | F_RO | F_FLUSH, 1, &rc);
    if (!d->v)
        return rc;
    if (!virtio_config(d->v))
        return -ENODEV;
    read_config(d);
    pci->driver = "virtio-blk";
    return 0;
}

void virtio_blk_init(void)
{
    struct pci_device *pci;

    for (unsigned n = 0; n_disks < DISKS_MAX; n++) {
        int rc;

        pci = pci_find(VIRTIO_PCI_VENDOR, VIRTIO_PCI_ID(DEVICE_TYPE), n);
        if (!pci)
            return;
        rc = open_disk(&disks[n_disks], pci);
        if (rc == 0)
            n_disks++;
        else
            printk("kernel: disk %02x:%02x.%u can't be used, error %d\n", pci->bdf >> 8,
                   pci->bdf >> 3 & 31, pci->bdf & 7, rc);
    }
}

/* --- requests ------------------------------------------------------------------------ */

/* One request: its head, the pieces of `h` (NULL: none), its status. */
static int transfer(struct disk *d, uint32_t type, uint64_t sector, const struct hold *h)
{
    struct virtio_piece piece[HOLD_MAX + 2];
    uint64_t gpa = pmm_alloc(0, 0);
    struct request_page *page = phys_to_virt(gpa);
    unsigned n = 0;
    int64_t rc;

    if (!gpa)
        return -ENOMEM;
    page->head.type = type;
    page->head.reserved = 0;
    page->head.sector = sector;
    page->status = UINT8_MAX;
    piece[n++] = (struct virtio_piece){ gpa, sizeof(page->head), false };
    for (unsigned i = 0; h && i < h->pieces; i++)
        piece[n++] = h->piece[i];
    piece[n++] = (struct virtio_piece){ gpa + offsetof(struct request_page, status), 1, true };
    rc = virtio_request(d->v, 0, piece, n);
    if (rc >= 0)
        rc = page->status == STATUS_OK ? 0 : page->status == STATUS_UNSUPPORTED ? -ENOSYS : -EIO;
    pmm_free(gpa);
    return (int)rc;
}

/* All of the range, in requests as large as the device and its queue take them. */
static int64_t transfer_user(struct disk *d, bool write, uint64_t sector, uint64_t buf,
                             uint64_t sectors)
{
    uint64_t left = sectors * SYS_SECTOR_SIZE;
    struct hold h;

    while (left > 0) {
        int rc = hold_user(&h, buf, left, d->pieces_max, d->piece_max, !write);

        if (rc == 0)
            rc = transfer(d, write ? TYPE_OUT : TYPE_IN, sector, &h);
        if (rc != 0) {
            hold_release(&h);
            return rc;
        }
        buf += h.len;
        left -= h.len;
        sector += h.len / SYS_SECTOR_SIZE;
        hold_release(&h);
    }
    return (int64_t)sectors;
}

static int64_t get_size(struct disk *d, uint64_t buf)
{
    struct sys_disk info = {
        .sectors = d->sectors,
        .read_only = d->read_only,
        .flushes = d->flushes,
        .bdf = virtio_pci(d->v)->bdf,
    };

    if (buf != 0 && copy_to_user(buf, &info, sizeof info) != 0)
        return -EFAULT;
    return (int64_t)d->sectors;
}

int64_t virtio_blk_call(uint64_t op, uint64_t disk, uint64_t sector, uint64_t buf, uint64_t sectors)
{
    struct disk *d;

    drivers_init();
    if (op > SYS_BLOCK_FLUSH)
        return -EINVAL;
    if (disk >= n_disks)
        return -ENODEV;
    d = &disks[disk];
    if (op == SYS_BLOCK_SIZE)
        return get_size(d, buf);
    if (op == SYS_BLOCK_FLUSH)
        return d->flushes ? transfer(d, TYPE_FLUSH, 0, NULL) : 0;
    if (sectors == 0 || sector >= d->sectors || sectors > d->sectors - sector ||
        buf % SYS_SECTOR_SIZE != 0)
        return -EINVAL;
    if (op == SYS_BLOCK_WRITE && d->read_only)
        return -EROFS;
    return transfer_user(d, op == SYS_BLOCK_WRITE, sector, buf, sectors);
}
