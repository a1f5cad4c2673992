/*
 * What the DMA test device does by itself, on the I/O thread: transfers, page requests, factorials.
 */
#include <errno.h>
#include <unistd.h>

#include "iommu/iommu.h"
#include "vmm/edu_impl.h"

#define PAGE UINT64_C(4096)

/* --- the device's side of a transfer -----------------------------------------------------------
 */

/* The bytes at `at` of a store that is seen from `base` on; NULL when not all of [at, at + len) is
 * in it. */
static uint8_t *within(uint8_t *store, uint64_t base, uint64_t size, uint64_t at, uint64_t len)
{
    uint64_t offset = at - base; /* huge when `at` is below */

    return offset <= size && len <= size - offset ? store + offset : NULL;
}

/* Fills e->transfer from the registers. False: TF_EDU_BAD_RANGE. Needs e->lock. */
static bool begin(struct edu *e)
{
    bool from = e->command & TF_EDU_FROM_DEVICE;
    uint8_t *device;

    if (e->command & TF_EDU_OWN_MEMORY)
        device = within(e->memory, 0, EDU_MEMORY, e->device_offset, e->count);
    else
        device = within(e->buffer, TF_EDU_BUFFER, TF_EDU_BYTES, from ? e->source : e->destination,
                        e->count);
    e->transfer = (struct edu_transfer){
        .iova = from ? e->destination : e->source,
        .left = e->count,
        .device = device,
        .from_device = from,
    };
    return device != NULL;
}

/* --- page requests -----------------------------------------------------------------------------
 */

static bool find_domain(const struct iommu *m, uint32_t endpoint, uint32_t *domain)
{
    uint32_t id;
    bool attached;

    for (size_t n = 0; iommu_endpoint(m, n, &id, &attached, domain); n++)
        if (id == endpoint)
            return attached;
    return false;
}

static bool passes_all(const struct iommu *m, uint32_t domain)
{
    uint32_t id;
    bool bypass;

    for (size_t n = 0; iommu_domain(m, n, &id, &bypass); n++)
        if (id == domain)
            return bypass;
    return false;
}

static bool in_range(const struct iommu_mapping *r, uint64_t iova)
{
    return iova - r->iova.v < r->len;
}

/*
 * True when the driver could help: the page at `iova` is one that could be mapped, but isn't, or
 * not with the right that is needed. Looked up as by an address translation service, whose
 * question is no fault.
 */
static bool page_is_missing(const struct edu *e, uint64_t iova, unsigned prot)
{
    const struct iommu *m = e->dma.iommu;
    uint32_t endpoint = e->function.devfn, domain;
    struct iommu_mapping r;
    bool msi;

    if (!m || !pci_bus_master(&e->function) || iova > iommu_last_iova(m))
        return false;
    for (size_t n = 0; iommu_reserved(m, endpoint, n, &r, &msi); n++)
        if (in_range(&r, iova))
            return false;
    if (!find_domain(m, endpoint, &domain) || passes_all(m, domain))
        return false;
    return !iommu_find_mapping(m, domain, (iova_t){ iova }, &r) || (r.prot & prot) != prot;
}

/* Stops at the transfer's next byte. Needs e->lock. */
static void request_page(struct edu *e)
{
    e->request_addr = (e->transfer.iova & ~(PAGE - 1)) | e->transfer.from_device;
    e->phase = EDU_WAITING;
    e->stat.page_requests++;
    edu_raise(e, TF_EDU_REQUEST);
}

/* --- transfers ---------------------------------------------------------------------------------
 */

static int move(struct edu *e, uint64_t len)
{
    struct edu_transfer *t = &e->transfer;
    int rc = t->from_device ? dma_write(&e->dma, t->iova, t->device, len)
                            : dma_read(&e->dma, t->iova, t->device, len);

    t->iova += len;
    t->device += len;
    t->left -= len;
    return rc;
}

/* Goes on with the transfer to its end, or with `requests` to a page that is missing: false then.
 */
static bool run(struct edu *e, bool requests, int *rc)
{
    struct edu_transfer *t = &e->transfer;

    *rc = 0;
    while (t->left > 0 && *rc == 0) {
        uint64_t len = t->left;

        if (requests) {
            uint64_t in_page = PAGE - t->iova % PAGE;

            if (page_is_missing(e, t->iova, t->from_device ? IOMMU_WRITE : IOMMU_READ))
                return false;
            if (len > in_page)
                len = in_page;
        }
        *rc = move(e, len);
    }
    return true;
}

/* Needs e->lock. */
static void finish(struct edu *e, enum tf_edu_error result)
{
    e->result = result;
    e->phase = EDU_IDLE;
    e->command &= ~(uint64_t)TF_EDU_START;
    e->stat.transfers++;
    e->stat.failed += result != TF_EDU_OK;
    if (e->command & TF_EDU_INTERRUPT)
        edu_raise(e, TF_EDU_DONE);
}

static enum tf_edu_error result_of(int rc)
{
    return rc == 0 ? TF_EDU_OK : rc == -EPERM ? TF_EDU_NO_MASTER : TF_EDU_FAULT;
}

/* Needs e->lock, which it leaves while bytes are copied. */
static void transfer(struct edu *e)
{
    bool requests = e->request_control & TF_EDU_REQUESTS_ON, over;
    int rc;

    if (e->refused) {
        finish(e, TF_EDU_REFUSED);
        return;
    }
    if (!e->begun && !begin(e)) {
        finish(e, TF_EDU_BAD_RANGE);
        return;
    }
    e->begun = true;
    (void)pthread_mutex_unlock(&e->lock);
    over = run(e, requests, &rc);
    (void)pthread_mutex_lock(&e->lock);
    if (over)
        finish(e, result_of(rc));
    else if (e->request_control & TF_EDU_REQUESTS_ON)
        request_page(e);
    else /* turned off meanwhile: nobody is going to answer */
        finish(e, TF_EDU_REFUSED);
}

/* --- work --------------------------------------------------------------------------------------
 */

/* In 32 bits: from 34 on it is 0. Needs e->lock. */
static void factorial(struct edu *e)
{
    uint32_t n = e->factorial, product = n < 34 ? 1 : 0;

    for (; product && n > 1; n--)
        product *= n;
    e->factorial = product;
    e->status &= ~EDU_COMPUTING;
    e->stat.factorials++;
    if (e->status & EDU_FACTORIAL_IRQ)
        edu_raise(e, 1);
}

void edu_work(void *ctx, int fd, uint32_t events)
{
    struct edu *e = ctx;
    uint64_t kicks;

    (void)events;
    if (e->held) /* in the same round of the loop; the event stays */
        return;
    if (read(fd, &kicks, sizeof(kicks)) != (ssize_t)sizeof(kicks))
        return;
    (void)pthread_mutex_lock(&e->lock);
    if (e->status & EDU_COMPUTING)
        factorial(e);
    if (e->phase == EDU_STARTED)
        transfer(e);
    (void)pthread_mutex_unlock(&e->lock);
}
