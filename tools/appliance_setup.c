#include <cpuid.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/appliance.h"

#define COLDPLUG "/.twofold/coldplug" /* hardware.cpio brings it: look for real devices */

static const struct {
    const char *source, *target, *type, *data;
    bool optional;
} mounts[] = {
    { "proc", "/proc", "proc", NULL, false },
    { "sysfs", "/sys", "sysfs", NULL, false },
    { "devtmpfs", "/dev", "devtmpfs", NULL, false },
    { "devpts", "/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666", false },
    { "tmpfs", "/dev/shm", "tmpfs", "mode=1777", false },
    { "tmpfs", "/run", "tmpfs", "mode=755", false },
    { "debugfs", "/sys/kernel/debug", "debugfs", NULL, true },
    { "tracefs", "/sys/kernel/tracing", "tracefs", NULL, true },
    { "hugetlbfs", "/dev/hugepages", "hugetlbfs", "pagesize=2M", true },
    { "hugetlbfs", "/dev/hugepages1G", "hugetlbfs", "pagesize=1G", true },
};

static void mount_all(void)
{
    for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
        (void)mkdir(mounts[i].target, 0755);
        if (mount(mounts[i].source, mounts[i].target, mounts[i].type, MS_NOSUID, mounts[i].data) &&
            errno != EBUSY && !mounts[i].optional)
            (void)fprintf(stderr, "init: %s can't be mounted: %s\n", mounts[i].target,
                          strerror(errno));
    }
}

/* The kernel had no /dev/console for us, or one that we open again: now devtmpfs has it. */
static void open_console(void)
{
    int fd = open("/dev/console", O_RDWR | O_NOCTTY);

    if (fd < 0)
        fd = open("/dev/null", O_RDWR);
    for (int i = 0; i < 3 && fd >= 0; i++)
        (void)dup2(fd, i);
    if (fd > 2)
        close(fd);
}

static void run_quietly(const char *const argv[])
{
    pid_t pid = fork();
    int wstatus;

    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);

        /* Modules that this machine has no device for are no news. */
        if (null >= 0)
            (void)dup2(null, STDERR_FILENO);
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    if (pid > 0)
        (void)waitpid(pid, &wstatus, 0);
}

static void read_line(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "re");

    out[0] = 0;
    if (!f)
        return;
    if (fgets(out, (int)size, f))
        out[strcspn(out, "\n")] = 0;
    (void)fclose(f);
}

static bool have_svm(void)
{
    unsigned int a = 0;
    unsigned int b = 0;
    unsigned int c = 0;
    unsigned int d = 0;

    /* AMD APM vol. 3, CPUID Fn8000_0001_ECX: bit 2 is SVM. */
    return __get_cpuid(0x80000001, &a, &b, &c, &d) && c >> 2 & 1;
}

static bool have_vmx(void)
{
    unsigned int a = 0;
    unsigned int b = 0;
    unsigned int c = 0;
    unsigned int d = 0;

    /* Intel SDM vol. 2A, CPUID leaf 01H: ECX bit 5 is VMX. */
    return __get_cpuid(1, &a, &b, &c, &d) && c >> 5 & 1;
}

static bool have_iommu(void)
{
    struct stat st;

    /* An empty folder has two links, one with a group in it has more. */
    return stat("/sys/kernel/iommu_groups", &st) == 0 && st.st_nlink > 2;
}

/* A PCI device of virtio's vendor (Virtual I/O Device 1.2, 4.1.2 PCI Device Discovery). */
static bool have_virtio(void)
{
    DIR *dir = opendir("/sys/bus/pci/devices");
    bool found = false;

    for (struct dirent *e = dir ? readdir(dir) : NULL; e && !found; e = readdir(dir)) {
        char path[300];
        char vendor[16];

        (void)snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.60s/vendor", e->d_name);
        read_line(path, vendor, sizeof(vendor));
        found = !strcmp(vendor, "0x1af4");
    }
    if (dir)
        closedir(dir);
    return found;
}

static void load_modules(void)
{
    const char *argv[16] = { "/bin/busybox", "modprobe", "-a", "-q" };
    int n = 4;

    if (have_svm())
        argv[n++] = "kvm-amd";
    else if (have_vmx())
        argv[n++] = "kvm-intel";
    if (have_iommu()) {
        argv[n++] = "vfio-pci";
        argv[n++] = "vfio_iommu_type1";
    }
    if (have_virtio()) {
        argv[n++] = "virtio_pci";
        argv[n++] = "virtio_console";
    }
    if (n > 4)
        run_quietly(argv);
    if (access(COLDPLUG, F_OK) == 0) {
        const char *script = "find /sys/devices -name modalias -exec cat {} + | sort -u | "
                             "xargs modprobe -a -q; modprobe -a -q sd_mod sr_mod";
        const char *coldplug[] = { "/bin/busybox", "sh", "-c", script, NULL };

        run_quietly(coldplug);
    }
}

/* Guests are larger together than the machine: what they don't touch costs nothing. */
static void allow_overcommit(void)
{
    FILE *f = fopen("/proc/sys/vm/overcommit_memory", "we");

    if (f) {
        (void)fputs("1", f);
        (void)fclose(f);
    }
}

void appliance_setup(void)
{
    (void)umask(022);
    mount_all();
    open_console();
    (void)setenv("PATH", "/bin:/sbin", 1);
    (void)setenv("HOME", "/root", 1);
    (void)setenv("XDG_RUNTIME_DIR", "/run", 1);
    (void)setenv("TERM", "linux", 0);
    (void)setenv("PS1", "twofold:\\w# ", 1);
    (void)mkdir("/root", 0700);
    if (sethostname("twofold", 7) || chdir("/root"))
        (void)fprintf(stderr, "init: no host name or no /root: %s\n", strerror(errno));
    allow_overcommit();
    load_modules();
}

/* Which dimension of translation KVM uses here. */
static const char *kvm_kind(void)
{
    char amd[8];
    char intel[8];

    read_line("/sys/module/kvm_amd/parameters/npt", amd, sizeof(amd));
    read_line("/sys/module/kvm_intel/parameters/ept", intel, sizeof(intel));
    if (access("/dev/kvm", R_OK | W_OK))
        return "no KVM: this CPU has neither VMX nor SVM, or the firmware turned it off";
    if (amd[0])
        return strchr("Y1", amd[0]) ? "KVM on AMD, nested paging (NPT)"
                                    : "KVM on AMD, shadow paging (npt=0)";
    if (intel[0])
        return strchr("Y1", intel[0]) ? "KVM on Intel, nested paging (EPT)"
                                      : "KVM on Intel, shadow paging (ept=0)";
    return "KVM";
}

void appliance_welcome(int fd)
{
    struct sysinfo info = { 0 };
    struct utsname uts = { 0 };

    (void)sysinfo(&info);
    (void)uname(&uts);
    (void)dprintf(fd, "twofold %s, Linux %s: %d CPUs, %lu MiB, %s, %s; `exit` powers off\n",
                  TWOFOLD_VERSION, uts.release, get_nprocs(),
                  (unsigned long)((unsigned long long)info.totalram * info.mem_unit >> 20),
                  kvm_kind(), have_iommu() ? "IOMMU on" : "no IOMMU");
}

int appliance_status(int wstatus)
{
    return WIFSIGNALED(wstatus) ? 128 + WTERMSIG(wstatus) : WEXITSTATUS(wstatus);
}

int appliance_session(const char *tty)
{
    int fd;

    (void)setsid();
    if (!tty)
        return 0;
    fd = open(tty, O_RDWR);
    if (fd < 0)
        return 126;
    (void)ioctl(fd, TIOCSCTTY, 1);
    for (int i = 0; i < 3; i++)
        (void)dup2(fd, i);
    if (fd > 2)
        close(fd);
    return 0;
}

int appliance_exec(const char *const argv[])
{
    sigset_t none;

    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    execvp(argv[0], (char *const *)argv);
    (void)fprintf(stderr, "twofold: '%s' can't be run in the appliance: %s\n", argv[0],
                  strerror(errno));
    return errno == ENOENT ? 127 : 126;
}
