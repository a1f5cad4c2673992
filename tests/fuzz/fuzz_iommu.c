/*
 * Requests of virtio-iommu, well formed and not, against a model that keeps mappings in a list:
 * each has to get the status that the model gives, and afterwards each endpoint reaches what the
 * model says. The input is a sequence of records: a kind, and a request's bytes or its fields.
 */
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_iommu.h>

#include "vmm/virtio_iommu.h"

#define ENDPOINTS 3
#define MAPS      256
#define FEATURES                                                                     \
    (UINT64_C(1) << VIRTIO_IOMMU_F_MAP_UNMAP | UINT64_C(1) << VIRTIO_IOMMU_F_PROBE | \
     UINT64_C(1) << VIRTIO_IOMMU_F_BYPASS_CONFIG)
#define WIDTH      48
#define UNANSWERED 0x100               /* nothing was written */
#define BIG        (UINT64_C(1) << 28) /* a mapping that may need too many tables */

struct input {
    const uint8_t *at;
    size_t left;
};

struct entry {
    uint32_t domain;
    uint64_t first, last, output;
    unsigned prot;
    bool used;
};

static struct {
    struct iommu *m;
    bool attached[ENDPOINTS], passes[ENDPOINTS], bypass;
    uint32_t domain[ENDPOINTS];
    struct entry map[MAPS];
} t;

static void check(bool ok)
{
    if (!ok)
        abort();
}

static uint64_t take(struct input *in, size_t bytes)
{
    uint64_t value = 0;

    for (size_t i = 0; i < bytes && in->left > 0; i++) {
        value |= (uint64_t)*in->at++ << (8 * i);
        in->left--;
    }
    return value;
}

static uint64_t field(const uint8_t *r, size_t at, size_t bytes)
{
    uint64_t value = 0;

    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)r[at + i] << (8 * i);
    return value;
}

/* --- the model: 5.13.6 of the specification, read once more -------------------------------- */

static int endpoint_of(uint64_t id)
{
    return id % 8 == 0 && id >= 8 && id <= 8 * ENDPOINTS ? (int)(id / 8 - 1) : -1;
}

static bool exists(uint32_t domain, bool *passes)
{
    for (int e = 0; e < ENDPOINTS; e++) {
        if (t.attached[e] && t.domain[e] == domain) {
            *passes = t.passes[e];
            return true;
        }
    }
    return false;
}

static void leave(int e)
{
    bool passes;

    t.attached[e] = false;
    for (int i = 0; i < MAPS && !exists(t.domain[e], &passes); i++)
        if (t.map[i].domain == t.domain[e])
            t.map[i].used = false;
}

static int model_attach(const uint8_t *r)
{
    uint32_t domain = (uint32_t)field(r, 4, 4);
    uint64_t flags = field(r, 12, 4);
    int e = endpoint_of(field(r, 8, 4));
    bool passes;

    if (field(r, 16, 4) != 0 || flags > 1)
        return VIRTIO_IOMMU_S_INVAL;
    if (domain > VIRTIO_IOMMU_LAST_DOMAIN)
        return VIRTIO_IOMMU_S_RANGE;
    if (e < 0)
        return VIRTIO_IOMMU_S_NOENT;
    if (exists(domain, &passes) && passes != flags)
        return VIRTIO_IOMMU_S_INVAL;
    if (t.attached[e] && t.domain[e] == domain)
        return VIRTIO_IOMMU_S_OK;
    if (t.attached[e])
        leave(e);
    t.attached[e] = true;
    t.passes[e] = flags;
    t.domain[e] = domain;
    return VIRTIO_IOMMU_S_OK;
}

static int model_detach(const uint8_t *r)
{
    int e = endpoint_of(field(r, 8, 4));

    if (e < 0)
        return VIRTIO_IOMMU_S_NOENT;
    if (!t.attached[e] || t.domain[e] != field(r, 4, 4))
        return VIRTIO_IOMMU_S_INVAL;
    leave(e);
    return VIRTIO_IOMMU_S_OK;
}

static int model_map_check(const struct entry *new)
{
    bool passes;

    if ((new->first | (new->last + 1) | new->output) % 4096 != 0 || new->last >> WIDTH)
        return VIRTIO_IOMMU_S_RANGE;
    if (!exists(new->domain, &passes))
        return VIRTIO_IOMMU_S_NOENT;
    if (passes || new->prot == 0)
        return VIRTIO_IOMMU_S_INVAL;
    if (new->output >> 52 || (new->output + (new->last - new->first)) >> 52 ||
        (new->first < DMA_MSI_BASE + DMA_MSI_SIZE &&new->last >= DMA_MSI_BASE))
        return VIRTIO_IOMMU_S_RANGE;
    for (int i = 0; i < MAPS; i++) {
        const struct entry *m = &t.map[i];

        if (m->used && m->domain == new->domain && m->first <= new->last && m->last >= new->first)
            return VIRTIO_IOMMU_S_INVAL;
    }
    return VIRTIO_IOMMU_S_OK;
}

/* `status`: what the device said, which may be NOMEM where that can be. */
static int model_map(const uint8_t *r, int status)
{
    struct entry new = { .domain = (uint32_t)field(r, 4, 4),
                         .first = field(r, 8, 8),
                         .last = field(r, 16, 8),
                         .output = field(r, 24, 8),
                         .prot = (unsigned)field(r, 32, 4) & 3,
                         .used = true };
    int rc;

    if (field(r, 32, 4) > 3 || new.last < new.first)
        return VIRTIO_IOMMU_S_INVAL;
    rc = model_map_check(&new);
    if (rc != VIRTIO_IOMMU_S_OK || (status == VIRTIO_IOMMU_S_NOMEM && new.last - new.first >= BIG))
        return rc == VIRTIO_IOMMU_S_OK ? status : rc;
    for (int i = 0; i < MAPS; i++) {
        if (!t.map[i].used) {
            t.map[i] = new;
            return rc;
        }
    }
    abort(); /* one_input() stops before */
}

static int model_unmap(const uint8_t *r)
{
    uint32_t domain = (uint32_t)field(r, 4, 4);
    uint64_t first = field(r, 8, 8), last = field(r, 16, 8);
    bool passes;

    if (field(r, 24, 4) != 0 || last < first)
        return VIRTIO_IOMMU_S_INVAL;
    if (!exists(domain, &passes))
        return VIRTIO_IOMMU_S_NOENT;
    if (passes)
        return VIRTIO_IOMMU_S_INVAL;
    for (int i = 0; i < MAPS; i++) {
        const struct entry *m = &t.map[i];

        if (m->used && m->domain == domain && m->first <= last && m->last >= first &&
            (m->first < first || m->last > last))
            return VIRTIO_IOMMU_S_RANGE;
    }
    for (int i = 0; i < MAPS; i++)
        if (t.map[i].domain == domain && t.map[i].first >= first && t.map[i].last <= last)
            t.map[i].used = false;
    return VIRTIO_IOMMU_S_OK;
}

static int model(const uint8_t *r, size_t len, size_t room, int status)
{
    static const size_t need[] = { 0, 20, 20, 36, 28, 72 };

    if (len < 4 || r[0] < 1 || r[0] > 5 || len < need[r[0]] || room < 4)
        return UNANSWERED;
    switch (r[0]) {
    case 1:
        return model_attach(r);
    case 2:
        return model_detach(r);
    case 3:
        return model_map(r, status);
    case 4:
        return model_unmap(r);
    default:
        if (endpoint_of(field(r, 4, 4)) < 0)
            return VIRTIO_IOMMU_S_NOENT;
        return room - 4 < VIRTIO_IOMMU_PROBE_BYTES ? VIRTIO_IOMMU_S_INVAL : VIRTIO_IOMMU_S_OK;
    }
}

static bool model_reaches(int e, uint64_t iova, unsigned prot, uint64_t *output)
{
    *output = iova;
    if (iova >= DMA_MSI_BASE && iova < DMA_MSI_BASE + DMA_MSI_SIZE)
        return false;
    if (!t.attached[e] || t.passes[e])
        return t.attached[e] || t.bypass;
    for (int i = 0; i < MAPS; i++) {
        const struct entry *m = &t.map[i];

        if (m->used && m->domain == t.domain[e] && m->first <= iova && m->last >= iova) {
            *output = m->output + (iova - m->first);
            return (m->prot & prot) == prot;
        }
    }
    return false;
}

/* --- records --------------------------------------------------------------------------- */

static void check_access(int e, uint64_t iova, unsigned prot)
{
    struct iommu_translation tr;
    uint64_t output;
    bool ok = model_reaches(e, iova, prot, &output);

    check((iommu_translate(t.m, 8 * (uint32_t)(e + 1), (iova_t){ iova }, 4096, prot, &tr) == 0) ==
          ok);
    check(!ok || (tr.output == output && tr.len >= 1 && tr.len <= 4096));
}

static void put(uint8_t *r, size_t at, size_t bytes, uint64_t value)
{
    for (size_t i = 0; i < bytes; i++)
        r[at + i] = (uint8_t)(value >> (8 * i));
}

/* A request that is mostly right: few domains, endpoints and pages. */
static size_t likely(struct input *in, uint8_t *r)
{
    uint64_t page = take(in, 2), pages = take(in, 1) + 1, what = take(in, 1);
    unsigned shift = what & 0x80 ? 21 : 12;

    r[0] = (uint8_t)(1 + what % 5);
    put(r, 4, 4, r[0] == 5 ? 8 * (what >> 4 & 3) : what >> 3 & 1);
    if (r[0] == 1 || r[0] == 2) {
        put(r, 8, 4, 8 * (page & 3));
        put(r, 12, 4, r[0] == 1 && pages < 16);
        return 20;
    }
    if (r[0] == 5)
        return 72;
    put(r, 8, 8, page << shift);
    put(r, 16, 8, ((page + pages) << shift) - 1);
    if (r[0] == 4)
        return 28;
    put(r, 24, 8, take(in, 3) << 12);
    put(r, 32, 4, what >> 5 & 3);
    return 36;
}

static void record(struct input *in)
{
    uint8_t r[VIRTIO_IOMMU_READ_MAX] = { 0 }, out[VIRTIO_IOMMU_WRITE_MAX];
    unsigned kind = (unsigned)take(in, 1);
    size_t len, room = kind & 0x40 ? sizeof(out) : kind & 0x0f, wrote;
    int status = UNANSWERED;

    if (kind & 0x80) {
        len = kind & 0x20 ? sizeof(r) : take(in, 1) % (sizeof(r) + 1);
        for (size_t i = 0; i < len; i++)
            r[i] = (uint8_t)take(in, 1);
    } else {
        len = likely(in, r);
        room = sizeof(out);
    }
    wrote = virtio_iommu_request(t.m, FEATURES, r, len, out, room);
    check(wrote <= room);
    if (wrote > 0)
        status = out[wrote - 4];
    check(model(r, len, room, status) == status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { .at = data, .left = size };
    unsigned records = 0;

    memset(&t, 0, sizeof(t));
    t.bypass = take(&in, 1) & 1;
    check(iommu_create(&t.m, 4, t.bypass) == 0);
    for (uint32_t e = 1; e <= ENDPOINTS; e++) {
        check(iommu_add_endpoint(t.m, 8 * e) == 0);
        check(iommu_reserve(t.m, 8 * e, (iova_t){ DMA_MSI_BASE }, DMA_MSI_SIZE, true) == 0);
    }
    while (in.left > 0 && records++ < MAPS) {
        record(&in);
        if (in.left > 0) {
            uint64_t where = take(&in, 3);

            for (int e = 0; e < ENDPOINTS; e++) {
                check_access(e, (where & 0xffff) << (where >> 16 & 1 ? 21 : 12), IOMMU_READ);
                check_access(e, (where & 0xffff) << 12 | 0xfff, IOMMU_WRITE);
            }
        }
    }
    iommu_destroy(t.m);
    return 0;
}
