#include "vmm/control_iommu.h"

#include <errno.h>
#include <stdio.h>

#include "vmm/clock.h"
#include "vmm/pci.h"
#include "vmm/virtio_iommu.h"
#include "vmm/vm.h"
#include "vmm/vm_devices.h"

#define MAPPINGS_DEFAULT 64
#define MAPPINGS_MAX     4096

static const char *access_name(unsigned prot)
{
    static const char *const names[] = { "--", "r-", "-w", "rw" };

    return names[prot & (IOMMU_READ | IOMMU_WRITE)];
}

/* "00:02.0", and the name of the device there; "" when there is none. */
static const char *device_name(struct vm *vm, uint32_t endpoint, char bdf[16])
{
    const struct pci *pci = vm_devices_pci(vm_pci_devices(vm));
    const struct pci_function *f;

    (void)snprintf(bdf, 16, "%02x:%02x.%x", endpoint >> 8 & 0xff, endpoint >> 3 & 0x1f,
                   endpoint & 7);
    for (size_t n = 0; (f = pci_at(pci, n)); n++)
        if (f->devfn == endpoint)
            return f->name;
    return "";
}

static json_t *domain_or_null(bool attached, uint32_t domain)
{
    return attached ? control_number(domain) : json_null();
}

static json_t *reserved_json(const struct iommu *m, uint32_t endpoint)
{
    json_t *list = json_array();
    struct iommu_mapping r;
    bool msi;

    for (size_t n = 0; iommu_reserved(m, endpoint, n, &r, &msi); n++)
        (void)json_array_append_new(list,
                                    json_pack("{s:o, s:o, s:b}", "iova", control_hex(r.iova.v),
                                              "size", control_number(r.len), "msi", (int)msi));
    return list;
}

static json_t *endpoints_json(struct vm *vm, const struct iommu *m)
{
    json_t *list = json_array();
    uint32_t endpoint, domain;
    bool attached;
    char bdf[16];

    for (size_t n = 0; iommu_endpoint(m, n, &endpoint, &attached, &domain); n++) {
        const char *name = device_name(vm, endpoint, bdf);

        (void)json_array_append_new(
            list, json_pack("{s:o, s:s, s:s, s:o, s:o}", "endpoint", control_number(endpoint),
                            "bdf", bdf, "name", name, "domain", domain_or_null(attached, domain),
                            "reserved", reserved_json(m, endpoint)));
    }
    return list;
}

static json_t *domains_json(const struct iommu *m, uint64_t most)
{
    json_t *list = json_array();
    uint32_t domain;
    bool bypass;

    for (size_t n = 0; iommu_domain(m, n, &domain, &bypass); n++) {
        json_t *maps = json_array();
        struct iommu_mapping map;

        for (size_t i = 0; i < most && iommu_mapping(m, domain, i, &map); i++)
            (void)json_array_append_new(
                maps, json_pack("{s:o, s:o, s:o, s:s}", "iova", control_hex(map.iova.v), "size",
                                control_number(map.len), "output", control_hex(map.output),
                                "access", access_name(map.prot)));
        (void)json_array_append_new(
            list, json_pack("{s:o, s:b, s:o, s:o}", "domain", control_number(domain), "bypass",
                            (int)bypass, "count", control_number(iommu_mappings(m, domain)),
                            "mappings", maps));
    }
    return list;
}

static json_t *faults_json(struct vm *vm, const struct iommu *m)
{
    json_t *list = json_array();
    uint64_t now = now_ns();
    struct iommu_fault f;
    char bdf[16];

    for (size_t n = 0; iommu_fault(m, n, &f); n++) {
        const char *name = device_name(vm, f.endpoint, bdf);

        (void)json_array_append_new(
            list,
            json_pack("{s:o, s:f, s:o, s:s, s:s, s:o, s:s, s:o, s:s}", "number",
                      control_number(f.number), "seconds_ago", (double)(now - f.time_ns) / 1e9,
                      "endpoint", control_number(f.endpoint), "bdf", bdf, "name", name, "domain",
                      domain_or_null(f.attached, f.domain), "access", f.write ? "write" : "read",
                      "iova", control_hex(f.iova.v), "reason", iommu_reason_name(f.reason)));
    }
    return list;
}

static void add_number(json_t *object, const char *key, uint64_t value)
{
    (void)json_object_set_new(object, key, control_number(value));
}

json_t *control_iommu_json(struct vm *vm)
{
    struct iommu_stat s;
    struct virtio_iommu_stat v;
    json_t *out = json_object();

    iommu_stat(vm_devices_iommu(vm_pci_devices(vm)), &s);
    virtio_iommu_stat(vm_devices_virtio_iommu(vm_pci_devices(vm)), &v);
    add_number(out, "translations", s.translations);
    add_number(out, "hits", s.hits);
    add_number(out, "misses", s.misses);
    add_number(out, "invalidations", s.invalidations);
    add_number(out, "walk_refs", s.walk_refs);
    add_number(out, "maps", s.maps);
    add_number(out, "unmaps", s.unmaps);
    add_number(out, "map_bytes", s.map_bytes);
    add_number(out, "unmap_bytes", s.unmap_bytes);
    add_number(out, "faults", s.faults);
    add_number(out, "faults_lost", s.faults_lost);
    add_number(out, "tables", s.tables);
    add_number(out, "leaves_4k", s.leaves_4k);
    add_number(out, "leaves_2m", s.leaves_2m);
    add_number(out, "leaves_1g", s.leaves_1g);
    add_number(out, "requests", v.requests);
    add_number(out, "refused_requests", v.refused);
    add_number(out, "events", v.events);
    add_number(out, "events_dropped", v.events_dropped);
    return out;
}

int control_iommu(struct vm *vm, const json_t *arguments, struct control_outcome *out)
{
    const struct iommu *m = vm_devices_iommu(vm_pci_devices(vm));
    uint64_t most = MAPPINGS_DEFAULT, last = 0;
    int rc = control_get_u64(arguments, "mappings", false, &most, &out->err);

    if (rc < 0)
        return rc;
    if (most > MAPPINGS_MAX)
        return error_set(&out->err, -EINVAL, "\"mappings\" is at most %d", MAPPINGS_MAX);
    if (!m)
        return error_set(&out->err, -ENOTSUP,
                         "this VM has no IOMMU: start it with --iommu and a device behind it");
    last = iommu_last_iova(m);
    out->result = json_pack("{s:b, s:o, s:o, s:o, s:o, s:o}", "bypass", (int)iommu_bypass(m),
                            "last_iova", control_hex(last), "endpoints", endpoints_json(vm, m),
                            "domains", domains_json(m, most), "counters", control_iommu_json(vm),
                            "faults", faults_json(vm, m));
    return out->result ? 0 : error_set(&out->err, -ENOMEM, "no memory for the answer");
}
