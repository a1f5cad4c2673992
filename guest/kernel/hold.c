#include "guest/kernel/hold.h"

#include "guest/kernel/errno.h"
#include "guest/kernel/mm.h"
#include "guest/kernel/proc.h"
#include "guest/kernel/usercopy.h"
#include "guest/kernel/vma.h"

/* Adds bytes at a gpa: to the last piece where they continue it, else as one of their own. */
static bool add_piece(struct hold *h, uint64_t gpa, uint64_t len, unsigned pieces, uint32_t most,
                      bool write)
{
    struct virtio_piece *last = h->pieces ? &h->piece[h->pieces - 1] : NULL;

    if (last && last->addr + last->len == gpa && len <= most - last->len) {
        last->len += (uint32_t)len;
    } else {
        if (h->pieces == pieces)
            return false;
        h->piece[h->pieces++] = (struct virtio_piece){ gpa, (uint32_t)len, write };
    }
    h->len += len;
    return true;
}

int hold_user(struct hold *h, uint64_t addr, uint64_t len, unsigned pieces, uint32_t most,
              bool write)
{
    struct aspace *as = proc_vm(proc_current())->as;

    h->pieces = h->pages = 0;
    h->len = 0;
    while (h->len < len && h->pages < HOLD_MAX) {
        uint64_t gva = addr + h->len, gpa, size, part;

        if ((write ? user_writable(gva, 1) : user_readable(gva, 1)) != 0 ||
            !aspace_hold(as, gva, &gpa, &size)) {
            hold_release(h);
            return -EFAULT;
        }
        h->page[h->pages++] = gpa;
        part = size - gva % size;
        part = part < len - h->len ? part : len - h->len;
        part = part < most ? part : most;
        if (!add_piece(h, gpa + gva % size, part, pieces, most, write))
            break;
    }
    return 0;
}

void hold_release(struct hold *h)
{
    while (h->pages > 0)
        page_put(h->page[--h->pages]);
    h->pieces = 0;
    h->len = 0;
}
