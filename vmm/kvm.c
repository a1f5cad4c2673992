#include "vmm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define KVM_PATH "/dev/kvm"

static int open_failed(struct error *err)
{
    int code = errno;

    switch (code) {
    case ENOENT:
        return error_set(err, -code,
                         KVM_PATH " is not there: load kvm_intel or kvm_amd, or switch "
                                  "virtualization on in the firmware or in the outer hypervisor");
    case EACCES:
    case EPERM:
        return error_set(err, -code,
                         KVM_PATH ": permission denied: join the group that owns it "
                                  "(usermod -aG kvm USER, then log in again) or run as root");
    case ENODEV:
    case ENXIO:
        return error_set(err, -code,
                         KVM_PATH " has no driver behind it: load kvm_intel or kvm_amd");
    default:
        return error_set(err, -code, "can't open " KVM_PATH ": %s", strerror(code));
    }
}

int kvm_open(struct kvm *kvm, struct error *err)
{
    int version, size, max;

    memset(kvm, 0, sizeof(*kvm));
    kvm->fd = open(KVM_PATH, O_RDWR | O_CLOEXEC);
    if (kvm->fd < 0)
        return open_failed(err);

    version = ioctl(kvm->fd, KVM_GET_API_VERSION, 0);
    if (version < 0) {
        kvm_close(kvm);
        return error_set(err, -ENOTTY, KVM_PATH " does not answer as KVM: is it the right device?");
    }
    if (version != KVM_API_VERSION) {
        kvm_close(kvm);
        return error_set(err, -ENOTSUP,
                         KVM_PATH " speaks API version %d, twofold needs %d: use Linux 2.6.22 or "
                                  "later",
                         version, KVM_API_VERSION);
    }
    size = ioctl(kvm->fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (size < (int)sizeof(struct kvm_run)) {
        kvm_close(kvm);
        return error_set(err, -ENOTSUP, KVM_PATH " gives a vCPU area of %d bytes, too few", size);
    }
    if (!kvm_cap(kvm, KVM_CAP_IMMEDIATE_EXIT)) {
        kvm_close(kvm);
        return error_set(err, -ENOTSUP,
                         KVM_PATH " can't stop a running vCPU reliably (KVM_CAP_IMMEDIATE_EXIT): "
                                  "use Linux 4.13 or later");
    }
    kvm->run_size = (size_t)size;
    max = kvm_cap(kvm, KVM_CAP_MAX_VCPUS);
    if (max == 0)
        max = kvm_cap(kvm, KVM_CAP_NR_VCPUS);
    kvm->max_vcpus = max > 0 ? (unsigned)max : 4; /* api.rst: assume 4 when neither is there */
    max = kvm_cap(kvm, KVM_CAP_MAX_VCPU_ID);
    kvm->max_vcpu_id = max > 0 ? (unsigned)max : kvm->max_vcpus;
    return 0;
}

void kvm_close(struct kvm *kvm)
{
    if (kvm->fd >= 0)
        (void)close(kvm->fd);
    kvm->fd = -1;
}

int kvm_cap(const struct kvm *kvm, int cap)
{
    int value = ioctl(kvm->fd, KVM_CHECK_EXTENSION, cap);

    return value > 0 ? value : 0;
}

/* A parameter of /sys/module: bool parameters print Y or N, int ones a number. */
static enum kvm_flag module_flag(const char *module, const char *parameter)
{
    enum kvm_flag flag = KVM_FLAG_ABSENT;
    char path[128];
    FILE *file;
    int c;

    (void)snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", module, parameter);
    file = fopen(path, "re");
    if (!file)
        return flag;
    c = fgetc(file);
    if (c != EOF)
        flag = c == 'Y' || (c >= '1' && c <= '9') ? KVM_FLAG_YES : KVM_FLAG_NO;
    (void)fclose(file);
    return flag;
}

static bool module_loaded(const char *module)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/sys/module/%s", module);
    return access(path, F_OK) == 0;
}

void kvm_backend_read(struct kvm_backend *out)
{
    memset(out, 0, sizeof(*out));
    out->module = "kvm";
    out->tdp_mmu = module_flag("kvm", "tdp_mmu");

    if (module_loaded("kvm_pvm")) {
        out->kind = KVM_KIND_PVM;
        out->module = "kvm_pvm";
        out->nested_paging = KVM_FLAG_NO;
    } else if (module_loaded("kvm_intel")) {
        out->kind = KVM_KIND_INTEL;
        out->module = "kvm_intel";
        out->nested_paging = module_flag("kvm_intel", "ept");
        out->tag = module_flag("kvm_intel", "vpid");
        out->ad_bits = module_flag("kvm_intel", "eptad");
        out->unrestricted = module_flag("kvm_intel", "unrestricted_guest");
        out->nested_virt = module_flag("kvm_intel", "nested");
    } else if (module_loaded("kvm_amd")) {
        out->kind = KVM_KIND_AMD;
        out->module = "kvm_amd";
        out->nested_paging = module_flag("kvm_amd", "npt");
        out->nested_virt = module_flag("kvm_amd", "nested");
    }
}

const char *kvm_kind_name(enum kvm_kind kind)
{
    switch (kind) {
    case KVM_KIND_INTEL:
        return "Intel VMX";
    case KVM_KIND_AMD:
        return "AMD SVM";
    case KVM_KIND_PVM:
        return "PVM (no hardware virtualization)";
    case KVM_KIND_UNKNOWN:
        break;
    }
    return "unknown";
}
