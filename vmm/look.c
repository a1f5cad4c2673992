#include "vmm/look.h"
#include "vmm/clock.h"

#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/mailbox.h"
#include "vmm/pages.h"
#include "vmm/vm_impl.h"

#define REGION_SHIFT PAGE_SHIFT_2M
#define CR4_PKE      (1u << 22)

/* --- what is behind a page ---------------------------------------------------------- */

/*
 * Pages are learned in regions, so that large ones are seen whole; once a look, since
 * the VM stands still.
 */
static int learn(struct look *l, uint64_t at)
{
    uint64_t region = at >> REGION_SHIFT;
    uint64_t *slot = &l->learned[region % LOOK_REGIONS];
    size_t count;
    const struct mem_slot *first = memory_slots(vm_memory(l->vm), &count);
    uint64_t size = mem_backing_page(first->backing);
    int rc;

    if (*slot == region + 1)
        return 0;
    if (size < PAGE_SIZE_2M)
        size = PAGE_SIZE_2M;
    rc = pages_learn(vm_pages(l->vm), gpa(at & ~(size - 1)), size);
    if (rc < 0)
        l->failed = rc;
    else
        *slot = region + 1;
    return rc;
}

int look_page(struct look *l, gpa_t at, struct gp_page *out)
{
    int rc = gpmap_get(l->map, at, out);

    if (rc == 0)
        rc = learn(l, at.v);
    return rc == 0 ? gpmap_get(l->map, at, out) : rc;
}

hva_t look_hva(const struct look *l, gpa_t at)
{
    size_t count;
    const struct mem_slot *slot = memory_slots(vm_memory(l->vm), &count);

    for (size_t i = 0; i < count; i++)
        if (at.v - slot[i].base.v < slot[i].size)
            return hva_of(slot[i].host + (at.v - slot[i].base.v));
    return hva(0);
}

/* --- readers for the walkers ---------------------------------------------------------- */

/* Copies what is at `at`, which lies within one page. */
static int copy(struct look *l, uint64_t at, void *buf, unsigned bytes)
{
    struct gp_page page;
    int rc = look_page(l, gpa(at), &page);

    if (rc < 0)
        return rc;
    switch (page.state) {
    case GP_UNTOUCHED:
    case GP_ZERO:
        memset(buf, 0, bytes);
        return 0;
    case GP_PRESENT:
        return memory_read(vm_memory(l->vm), gpa(at), buf, bytes);
    default:
        return -EACCES;
    }
}

int look_read(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    *raw = 0; /* guest and host are little-endian */
    return copy(ctx, at, raw, size);
}

const void *look_read_table(void *ctx, uint64_t at, unsigned bytes, void *buf)
{
    return copy(ctx, at, buf, bytes) < 0 ? NULL : buf;
}

/* pt_read at a translated address: back to the gpa, and through the gate like everybody. */
static int read_hva(void *ctx, uint64_t at, unsigned size, uint64_t *raw)
{
    struct look *l = ctx;
    size_t count;
    const struct mem_slot *slot = memory_slots(vm_memory(l->vm), &count);

    for (size_t i = 0; i < count; i++)
        if (at - (uintptr_t)slot[i].host < slot[i].size)
            return look_read(l, slot[i].base.v + (at - (uintptr_t)slot[i].host), size, raw);
    *raw = 0;
    return -EFAULT;
}

int look_walk(struct look *l, gva_t address, const struct pt_access *access,
              struct nested_walk *out, struct pt_walk *guest)
{
    struct nested_space space = {
        .guest = l->guest, .read_guest = read_hva, .read_host = gpmap_read, .guest_ctx = l
    };
    struct gp_page page;

    /* By itself first: every page on the way is then known to the map as the host has it. */
    (void)pt_access(&l->guest, address.v, access, look_read, l, guest);
    if (guest->shift || l->guest.format->levels == 0)
        (void)look_page(l, gpa(guest->output), &page);
    if (l->failed)
        return l->failed;
    gpmap_space(l->map, &space.host);
    space.host_ctx = l->map;
    (void)nested_walk(&space, address, access, out);
    return l->failed;
}

/* --- the vCPU ------------------------------------------------------------------------- */

/* PKRU lies in the XSAVE area where CPUID says. Intel SDM vol. 1, 13.1 "XSAVE-Supported Features".
 */
static uint32_t read_pkru(const struct vcpu *cpu)
{
    struct kvm_xsave *area = calloc(1, sizeof(*area));
    unsigned size, offset, c, d;
    uint32_t pkru = 0;

    __cpuid_count(0xd, 9, size, offset, c, d);
    if (area && size >= sizeof(pkru) && offset <= sizeof(area->region) - sizeof(pkru) &&
        ioctl(cpu->fd, KVM_GET_XSAVE, area) == 0)
        memcpy(&pkru, (const uint8_t *)area->region + offset, sizeof(pkru));
    (void)c, (void)d;
    free(area);
    return pkru;
}

/* Segments have a base outside of 64-bit mode. */
static gva_t linear(const struct kvm_sregs *sregs, const struct kvm_segment *segment,
                    uint64_t offset)
{
    bool long_mode = sregs->efer & X86_EFER_LMA && sregs->cs.l;

    return gva(long_mode ? offset : (uint32_t)(segment->base + offset));
}

static int read_vcpu(struct look *l, struct error *err)
{
    const struct vcpu *cpu = &l->vm->vcpu[l->request.cpu];
    struct kvm_sregs sregs;
    struct kvm_regs regs;
    int rc = vcpu_registers(cpu, &regs, &sregs);

    if (rc < 0)
        return error_set(err, rc, "KVM does not give the registers of vCPU %u: %s", cpu->id,
                         strerror(-rc));
    l->paging = (struct x86_paging){
        .cr0 = sregs.cr0,
        .cr3 = l->request.tables == LOOK_VCPU ? sregs.cr3 : l->request.cr3,
        .cr4 = sregs.cr4,
        .efer = sregs.efer,
        .phys_bits = cpuid_phys_bits(l->vm->cpuid),
        .gib_pages = cpuid_gib_pages(l->vm->cpuid),
        .amd = cpuid_amd(l->vm->cpuid),
        .rflags = regs.rflags,
        .pkru = sregs.cr4 & CR4_PKE ? read_pkru(cpu) : 0,
    };
    l->user = sregs.ss.dpl == 3;
    l->rip = linear(&sregs, &sregs.cs, regs.rip);
    l->rsp = linear(&sregs, &sregs.ss, regs.rsp);
    l->cr2 = gva(sregs.cr2);
    x86_pt_space(&l->guest, &l->paging);
    return 0;
}

/* Fills request.cr3 from the guest's process table. */
static int find_process(struct look *l, struct error *err)
{
    struct mailbox_process *all = NULL;
    struct error why;
    size_t count = 0;
    int rc = mailbox_processes(vm_mailbox(l->vm), &all, &count, &why);

    if (rc == -ENOENT)
        return error_set(err, -ENOTSUP, "this guest does not tell its processes; use --cr3");
    if (rc < 0)
        return error_set(err, rc, "%s", why.text);
    rc = -ESRCH;
    for (size_t i = 0; i < count && rc < 0; i++) {
        if (all[i].pid != l->request.pid)
            continue;
        l->request.cr3 = all[i].root.v;
        memcpy(l->process, all[i].name, sizeof(l->process));
        rc = 0;
    }
    free(all);
    return rc == 0
               ? 0
               : error_set(err, rc, "the guest has no process %d at this moment", l->request.pid);
}

int look_open(struct look *l, struct vm *vm, const struct look_request *request, struct error *err)
{
    int rc;

    memset(l, 0, sizeof(*l));
    l->vm = vm;
    l->map = pages_map(vm_pages(vm));
    l->request = *request;
    if (request->cpu >= vm->vcpus)
        return error_set(err, -EINVAL, "there is no vCPU %u; the last one is %u", request->cpu,
                         vm->vcpus - 1);
    l->since_ns = now_ns();
    rc = vm_hold(vm, &l->held);
    if (rc < 0)
        return error_set(err, rc, "the VM can't be held still for a look: %s",
                         rc == -EBUSY ? "a vCPU waits in a device, as for a stalled reader of its "
                                        "output; try again when that reads"
                                      : "it has ended");
    if (request->tables == LOOK_PROCESS)
        rc = find_process(l, err);
    if (rc == 0)
        rc = read_vcpu(l, err);
    if (rc < 0)
        look_close(l);
    return rc;
}

void look_close(struct look *l)
{
    vm_let_go(l->vm, l->held);
}

uint64_t look_stood_ns(const struct look *l)
{
    return l->held ? now_ns() - l->since_ns : 0;
}
