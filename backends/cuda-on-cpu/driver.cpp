// A CUDA driver and NVRTC with no card: kernels are compiled by the host's C++ compiler and run by
// `cuda_on_cpu.h`. Loaded in place of libcuda.so and libnvrtc.so through LD_LIBRARY_PATH.
//
// COC_SM: compute capability to claim (default 80). COC_CACHE: folder of compiled kernels.
// COC_LOG=1: one line per compilation and launch. COC_GUARD=1: see below.
// COC_SOURCES=FOLDER: nothing is run; the CUDA C++ of every kernel goes to that folder, and a line per launch to
// its file `launches`: source, entry, threads of a block, blocks, bytes of shared memory, architecture.
// COC_NO_BOUNDS=1: no bounds checks. COC_LAX=1: faults are reported, and do not stop the program.
// COC_DROP_BARRIER=N and COC_DROP_IN=TEXT: the N-th barrier (from 1) is left out of each kernel whose entry has the
// text; a line for each such kernel says how many it has. N = 0 leaves none out.
// For the kernels themselves: COC_ORDER=forward|reverse|random|warps|warps-reverse, COC_SEED, COC_THREADS.
#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <chrono>
#include <fstream>
#include <map>
#include <mutex>
#include <regex>
#include <sstream>
#include <string>

using std::string;
typedef int R;

static int claim() { const char* s = getenv("COC_SM"); return s ? atoi(s) : 80; }
static bool talk() { static bool on = getenv("COC_LOG") != nullptr; return on; }
static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static const char* sources() { static const char* folder = getenv("COC_SOURCES"); return folder; }

struct Event { double at; };
struct Module { void* so; string image; };
struct Function { void* run; string image; };

// The end of the bracket that opens at `at`.
static size_t closing(const string& s, size_t at) {
    int depth = 0;
    bool text = false;
    for (size_t i = at; i < s.size(); i++) {
        if (s[i] == '"' && s[i - 1] != '\\') text = !text;
        if (text) continue;
        if (s[i] == '(') depth++;
        if (s[i] == ')' && --depth == 0) return i;
    }
    return string::npos;
}

// asm volatile("T" : "=f"(x) : "r"(y) : "memory") becomes coc::ptx("T", {coc::Out(x)}, {coc::In(y)}).
static string rewrite_asm(string s) {
    static const std::regex head("\\basm ?(volatile)?\\(\"");
    std::smatch m;
    string done;
    while (std::regex_search(s, m, head)) {
        size_t open = m.position(0) + m.length(0) - 2, end = closing(s, open);
        if (end == string::npos) break;
        string inner = s.substr(open + 1, end - open - 1), lists[3];
        int part = -1;
        size_t i = 0;
        string text;
        while (i < inner.size()) {
            if (inner[i] == '"') {
                size_t close = i + 1;
                while (inner[close] != '"' || inner[close - 1] == '\\') close++;
                string word = inner.substr(i, close - i + 1);
                i = close + 1;
                if (part < 0) { text += word; continue; }
                if (i < inner.size() && inner[i] == '(') {
                    size_t shut = closing(inner, i);
                    string& list = lists[part > 2 ? 2 : part];
                    list += (list.empty() ? "" : ", ") + string(part == 0 ? "coc::Out" : "coc::In") +
                            inner.substr(i, shut - i + 1);
                    i = shut + 1;
                }
                continue;
            }
            if (inner[i] == ':') part++;
            i++;
        }
        done += s.substr(0, m.position(0)) + "coc::ptx(" + text + ", {" + lists[0] + "}, {" + lists[1] + "})";
        s = s.substr(end + 1);
    }
    return done + s;
}

// Leaves out the barrier that COC_DROP_BARRIER names: tests have to notice.
static void drop_barrier(string& s, const string& entry) {
    const char *number = getenv("COC_DROP_BARRIER"), *in = getenv("COC_DROP_IN");
    if (!number) return;
    if (in && entry.find(in) == string::npos) return;
    static const string barrier = "__syncthreads();";
    int count = 0, dropped = 0;
    for (size_t at = s.find(barrier); at != string::npos; at = s.find(barrier, at + 1))
        if (++count == atoi(number)) {
            dropped = count;
            s.replace(at, barrier.size(), string(barrier.size(), ' '));
        }
    fprintf(stderr, "\ncuda-on-cpu: barriers of %s: %d, left out: %d\n", entry.c_str(), count, dropped);
}

// Gives every buffer parameter its length, which the kernel is told in `static_meta`.
static string check_bounds(const string& s) {
    std::smatch m;
    if (!std::regex_search(s, m, std::regex("(extern \"C\" __global__[^{]*?\\b[A-Za-z0-9_]+\\()([^{]*)(\\)\\s*\\{)"))) return s;
    string list = m[2], params, body;
    std::smatch info;
    if (!std::regex_search(list, info, std::regex("info_st const (\\w+)"))) return s;
    std::regex one("^(.*)\\* const __restrict__ (v[0-9]+)$");
    std::stringstream in(list);
    string param;
    int n = 0;
    while (std::getline(in, param, ',')) {
        param = std::regex_replace(param, std::regex("^\\s+|\\s+$"), "");
        std::smatch p;
        if (std::regex_match(param, p, one)) {
            string number = std::to_string(n++), name = p[2];
            body += "coc::Span<" + string(p[1]) + "> const " + name + "{" + name + "_raw, " + string(info[1]) +
                    ".static_meta[" + number + "], " + number + "};\n";
            param += "_raw";
        }
        params += (params.empty() ? "" : ", ") + param;
    }
    if (s.find("static_meta[") == string::npos) return s;
    return string(m.prefix()) + string(m[1]) + params + string(m[3]) + "\n" + body + string(m.suffix());
}

extern "C" {

R cuInit(unsigned) { return 0; }
R cuDriverGetVersion(int* v) { *v = 12090; return 0; }
R cuDeviceGetCount(int* n) { *n = 1; return 0; }
R cuDeviceGet(int* d, int) { *d = 0; return 0; }
R cuDeviceGetName(char* s, int n, int) { snprintf(s, n, "cuda-on-cpu sm_%d", claim()); return 0; }
R cuDeviceGetUuid_v2(char* id, int) { memset(id, 7, 16); return 0; }
R cuDeviceGetPCIBusId(char* s, int n, int) { snprintf(s, n, "0000:00:00.0"); return 0; }
R cuDeviceTotalMem_v2(size_t* n, int) { *n = size_t(8) << 30; return 0; }
R cuMemGetInfo_v2(size_t* a, size_t* b) { *a = *b = size_t(8) << 30; return 0; }
R cuDeviceGetAttribute(int* v, int what, int) {
    switch (what) {
        case 1: *v = 1024; break;                       // threads per block
        case 2: case 3: *v = 1024; break;               // block x, y
        case 4: *v = 64; break;                         // block z
        case 5: *v = 2147483647; break;                 // grid x
        case 6: case 7: *v = 65535; break;              // grid y, z
        case 10: *v = 32; break;                        // warp
        case 16: *v = 8; break;                         // multiprocessors
        case 75: *v = claim() / 10; break;              // compute capability
        case 76: *v = claim() % 10; break;
        case 97: *v = claim() >= 90 ? 232448 : 166912; break;  // shared memory by opt-in
        default: *v = 0;
    }
    return 0;
}
R cuDevicePrimaryCtxRetain(void** c, int) { *c = (void*)1; return 0; }
R cuDevicePrimaryCtxRelease_v2(int) { return 0; }
R cuCtxSetCurrent(void*) { return 0; }
R cuCtxGetCurrent(void** c) { *c = (void*)1; return 0; }
R cuCtxSynchronize() { return 0; }
R cuCtxGetStreamPriorityRange(int* a, int* b) { *a = *b = 0; return 0; }
R cuStreamCreate(void** s, unsigned) { *s = malloc(1); return 0; }
R cuStreamCreateWithPriority(void** s, unsigned, int) { *s = malloc(1); return 0; }
R cuStreamDestroy_v2(void* s) { free(s); return 0; }
R cuStreamSynchronize(void*) { return 0; }
R cuStreamWaitEvent(void*, void*, unsigned) { return 0; }
R cuEventCreate(void** e, unsigned) { *e = new Event{now()}; return 0; }
R cuEventDestroy_v2(void* e) { delete (Event*)e; return 0; }
R cuEventRecord(void* e, void*) { ((Event*)e)->at = now(); return 0; }
R cuEventSynchronize(void*) { return 0; }
R cuEventQuery(void*) { return 0; }
R cuEventElapsedTime(float* ms, void* a, void* b) { *ms = float((((Event*)b)->at - ((Event*)a)->at) * 1e3); return 0; }
R cuEventElapsedTime_v2(float* ms, void* a, void* b) { return cuEventElapsedTime(ms, a, b); }

// COC_GUARD=1: an allocation ends at a page that may not be touched, so that reading or writing past
// it stops the program. CubeCL cuts buffers from pages of its own; a test that wants this checks one
// buffer per page (cubecl.toml: exclusive pages) or calls this library itself.
static std::mutex guarded_lock;
static std::map<uint64_t, std::pair<void*, size_t>> guarded;
static void give(uint64_t p) {
    std::lock_guard<std::mutex> hold(guarded_lock);
    auto at = guarded.find(p);
    if (at == guarded.end()) { free((void*)p); return; }
    munmap(at->second.first, at->second.second);
    guarded.erase(at);
}
static R take(uint64_t* p, size_t n) {
    if (sources()) {  // never read nor written by kernels: address space is enough
        void* m = mmap(nullptr, n ? n : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (m == MAP_FAILED) return 2;
        *p = (uint64_t)m;
        std::lock_guard<std::mutex> hold(guarded_lock);
        guarded[*p] = {m, n ? n : 1};
        return 0;
    }
    if (getenv("COC_GUARD")) {
        size_t body = (n + 4095) / 4096 * 4096, all = body + 4096;
        char* base = (char*)mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        mprotect(base + body, 4096, PROT_NONE);
        memset(base, 0xff, body);
        *p = (uint64_t)(base + body - (n + 15) / 16 * 16);
        std::lock_guard<std::mutex> hold(guarded_lock);
        guarded[*p] = {base, all};
        return 0;
    }
    void* m = aligned_alloc(512, (n + 511) / 512 * 512);
    if (!m) return 2;
    memset(m, 0xff, (n + 511) / 512 * 512);  // fresh memory is garbage: NaN
    *p = (uint64_t)m;
    return 0;
}
R cuMemAlloc_v2(uint64_t* p, size_t n) { return take(p, n); }
R cuMemAllocAsync(uint64_t* p, size_t n, void*) { return take(p, n); }
R cuMemFree_v2(uint64_t p) { give(p); return 0; }
R cuMemFreeAsync(uint64_t p, void*) { give(p); return 0; }
R cuMemAllocHost_v2(void** p, size_t n) { *p = aligned_alloc(512, (n + 511) / 512 * 512); return 0; }
R cuMemFreeHost(void* p) { free(p); return 0; }
R cuMemcpyHtoDAsync_v2(uint64_t d, const void* s, size_t n, void*) { memcpy((void*)d, s, n); return 0; }
R cuMemcpyDtoHAsync_v2(void* d, uint64_t s, size_t n, void*) { memcpy(d, (void*)s, n); return 0; }
R cuMemcpyDtoDAsync_v2(uint64_t d, uint64_t s, size_t n, void*) { memmove((void*)d, (void*)s, n); return 0; }
struct Copy2D {
    size_t srcX, srcY; int srcType; const void* srcHost; uint64_t srcDevice; void* srcArray; size_t srcPitch;
    size_t dstX, dstY; int dstType; void* dstHost; uint64_t dstDevice; void* dstArray; size_t dstPitch;
    size_t width, height;
};
R cuMemcpy2DAsync_v2(const Copy2D* c, void*) {
    const char* s = c->srcType == 1 ? (const char*)c->srcHost : (const char*)c->srcDevice;
    char* d = c->dstType == 1 ? (char*)c->dstHost : (char*)c->dstDevice;
    for (size_t y = 0; y < c->height; y++)
        memcpy(d + (y + c->dstY) * c->dstPitch + c->dstX, s + (y + c->srcY) * c->srcPitch + c->srcX, c->width);
    return 0;
}
R cuGetErrorName(int, const char** s) { *s = "CUDA_ON_CPU_ERROR"; return 0; }
R cuGetErrorString(int, const char** s) { *s = "an error of cuda-on-cpu"; return 0; }

// A module's image is the path of the shared object that "NVRTC" made.
R cuModuleLoadData(void** m, const void* image) {
    if (sources()) { *m = new Module{nullptr, (const char*)image}; return 0; }
    void* so = dlopen((const char*)image, RTLD_NOW | RTLD_LOCAL);
    if (!so) { fprintf(stderr, "cuda-on-cpu: %s\n", dlerror()); return 200; }
    *m = new Module{so, (const char*)image};
    return 0;
}
R cuModuleUnload(void* m) { delete (Module*)m; return 0; }
R cuModuleGetFunction(void** f, void* m, const char* name) {
    Module* module = (Module*)m;
    void* run = module->so ? dlsym(module->so, "coc_launch") : nullptr;
    if (talk()) fprintf(stderr, "cuda-on-cpu: load %s\n", name);
    *f = new Function{run, module->image};
    return run || sources() ? 0 : 500;
}
R cuFuncSetAttribute(void*, int, int) { return 0; }
R cuLaunchKernel(void* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                 unsigned shared, void*, void** args, void**) {
    double t = now();
    unsigned dims[] = {gx, gy, gz, bx, by, bz};
    Function* function = (Function*)f;
    if (sources()) {
        static std::mutex one;
        std::lock_guard<std::mutex> hold(one);
        std::ofstream(string(sources()) + "/launches", std::ios::app)
            << function->image << ' ' << bx * by * bz << ' ' << uint64_t(gx) * gy * gz << ' ' << shared << '\n';
        return 0;
    }
    ((void (*)(const unsigned*, size_t, void**))function->run)(dims, shared, args);
    if (talk())
        fprintf(stderr, "cuda-on-cpu: launch (%u,%u,%u)x(%u,%u,%u) %.2f ms\n", gx, gy, gz, bx, by, bz, (now() - t) * 1e3);
    return 0;
}

struct Program { string source, log, image; };
int nvrtcVersion(int* a, int* b) { *a = 12; *b = 9; return 0; }
int nvrtcCreateProgram(Program** p, const char* source, const char*, int, const char* const*, const char* const*) {
    *p = new Program{source, "", ""};
    return 0;
}
int nvrtcDestroyProgram(Program** p) { delete *p; return 0; }
static string here() {
    Dl_info info;
    dladdr((void*)&nvrtcVersion, &info);
    char full[4096];
    if (!realpath(info.dli_fname, full)) return ".";
    string s = full;
    return s.substr(0, s.rfind('/'));
}
static int build(Program* p, const string& s, const string& entry) {
    const char* c = getenv("COC_CACHE");
    string dir = c ? c : "/tmp/cuda-on-cpu";
    mkdir(dir.c_str(), 0755);
    const char* flags = getenv("COC_FLAGS");
    string options = flags ? flags : "-O1 -march=native";
    std::ifstream head(here() + "/include/cuda_on_cpu.h");
    std::stringstream text;
    text << head.rdbuf();
    char name[64];
    snprintf(name, sizeof name, "%016zx", std::hash<string>()(s + options + text.str()));
    string base = dir + "/" + name;
    p->image = base + ".so";
    if (access(p->image.c_str(), R_OK) == 0) return 0;
    std::ofstream(base + ".cpp") << s;
    double t = now();
    string run = "g++ -std=c++17 -w " + options + " -ffp-contract=fast -fPIC -shared -I" + here() + "/include -o " + base +
                 ".tmp " + base + ".cpp > " + base + ".log 2>&1 && mv " + base + ".tmp " + p->image;
    int rc = system(run.c_str());
    if (talk()) fprintf(stderr, "cuda-on-cpu: compile %s %.2f s%s\n", entry.c_str(), now() - t, rc ? " FAILED" : "");
    if (rc == 0) return 0;
    std::ifstream log(base + ".log");
    std::stringstream all;
    all << log.rdbuf();
    p->log = all.str();
    return 6;
}
int nvrtcCompileProgram(Program* p, int count, const char* const* options) {
    static std::mutex one;
    std::lock_guard<std::mutex> hold(one);
    string s = p->source;
    std::smatch m;
    if (!std::regex_search(s, m, std::regex("extern \"C\" __global__[^{]*?\\b([A-Za-z0-9_]+)\\((?=[^)]*\\)\\s*\\{)"))) {
        p->log = "no kernel found";
        return 6;
    }
    string entry = m[1];
    if (sources()) {
        string arch;
        for (int i = 0; i < count; i++)
            if (!strncmp(options[i], "--gpu-architecture=", 19)) arch = options[i] + 19;
        char name[32];
        snprintf(name, sizeof name, "%016zx", std::hash<string>()(s));
        std::ofstream(string(sources()) + "/" + name + ".cu") << s;
        p->image = string(name) + " " + entry + " " + arch;
        return 0;
    }
    s = std::regex_replace(s, std::regex("typedef [a-z ]+ u?int(8|16|32|64)_t;"), "");
    s = std::regex_replace(s, std::regex("extern __shared__ __align__\\([0-9]+\\) char ([A-Za-z0-9_]+)\\[\\];"),
                           "char* $1 = coc::block->shared;");
    s = std::regex_replace(s, std::regex("__(launch_bounds|cluster_dims)__\\([^)]*\\)"), "");
    s = rewrite_asm(s);
    drop_barrier(s, entry);
    auto whole = [&](const string& s) {
        return "#include \"cuda_on_cpu.h\"\n" + s + "\nstatic void coc_body(void* args) { coc::invoke(&" + entry +
               ", (void**)args); }\n" + "extern \"C\" void coc_launch(const unsigned* d, size_t shared, void** args) {\n"
               "    coc::launch({{d[0], d[1], d[2]}, {d[3], d[4], d[5]}, shared, coc_body, args});\n}\n";
    };
    // A kernel that does more with a buffer than index it is built without bounds.
    if (!getenv("COC_NO_BOUNDS") && build(p, whole(check_bounds(s)), entry) == 0) return 0;
    return build(p, whole(s), entry);
}
int nvrtcGetProgramLogSize(Program* p, size_t* n) { *n = p->log.size() + 1; return 0; }
int nvrtcGetProgramLog(Program* p, char* s) { memcpy(s, p->log.c_str(), p->log.size() + 1); return 0; }
int nvrtcGetPTXSize(Program* p, size_t* n) { *n = p->image.size() + 1; return 0; }
int nvrtcGetPTX(Program* p, char* s) { memcpy(s, p->image.c_str(), p->image.size() + 1); return 0; }
const char* nvrtcGetErrorString(int) { return "NVRTC_ERROR"; }
}
