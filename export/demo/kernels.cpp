// The training's inner loops on a CPU: what PyTorch runs as many small passes over memory. `kernels.py` holds the
// reference of each and the way back. One thread; rows are contiguous; "half" is bfloat16.

#include <cstdint>
#include <cstring>

namespace {

using half = uint16_t;

inline float load(const float* at, long i) { return at[i]; }
inline float load(const half* at, long i) {
    uint32_t bits = static_cast<uint32_t>(at[i]) << 16;
    return __builtin_bit_cast(float, bits);
}
inline void store(float* at, long i, float value) { at[i] = value; }
inline void store(half* at, long i, float value) {
    uint32_t bits = __builtin_bit_cast(uint32_t, value);
    at[i] = static_cast<half>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);  // to the nearest, ties to even
}

// e to the x, about 2 units in the last place (Cephes' expf), in a form that compilers vectorise.
inline float power(float x) {
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float n = __builtin_rintf(x * 1.44269504088896341f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    return p * __builtin_bit_cast(float, bits);
}
inline float sigmoid(float x) { return 1.0f / (1.0f + power(-x)); }
inline float root(float x) { return __builtin_sqrtf(x); }

constexpr float EPS = 1e-6f;

// y = x / rms(x) * w, rows of d. inverse: 1 / rms, kept for the way back.
template <typename T>
void norm_forward(long n, long d, const float* x, const float* w, T* y, float* inverse) {
    for (long i = 0; i < n; i++, x += d, y += d) {
        float sum = 0;
        for (long j = 0; j < d; j++) sum += x[j] * x[j];
        float inv = inverse[i] = 1.0f / root(sum / d + EPS);
        for (long j = 0; j < d; j++) store(y, j, x[j] * inv * w[j]);
    }
}
template <typename T>
void norm_backward(long n, long d, const T* dy, const float* x, const float* w, const float* inverse, float* dx,
                   float* dw) {
    for (long i = 0; i < n; i++, x += d, dy += d, dx += d) {
        float inv = inverse[i], dot = 0;
        for (long j = 0; j < d; j++) {
            float g = load(dy, j);
            dot += g * w[j] * x[j];
            dw[j] += g * x[j] * inv;
        }
        float back = dot * inv * inv * inv / d;
        for (long j = 0; j < d; j++) dx[j] = load(dy, j) * w[j] * inv - x[j] * back;
    }
}

// y = silu(gate) * up; gate and up stand side by side in a row of 2 d.
template <typename T>
void swiglu_forward(long n, long d, const T* x, T* y) {
    for (long i = 0; i < n; i++, x += 2 * d, y += d)
        for (long j = 0; j < d; j++) {
            float gate = load(x, j);
            store(y, j, gate * sigmoid(gate) * load(x, d + j));
        }
}
template <typename T>
void swiglu_backward(long n, long d, const T* dy, const T* x, T* dx) {
    for (long i = 0; i < n; i++, x += 2 * d, dy += d, dx += 2 * d)
        for (long j = 0; j < d; j++) {
            float gate = load(x, j), up = load(x, d + j), g = load(dy, j), s = sigmoid(gate);
            store(dx, j, g * up * s * (1 + gate * (1 - s)));
            store(dx, d + j, g * gate * s);
        }
}

// y = silu(causal depthwise convolution with a kernel of 4); before: the 3 columns in front. x: (batch, time, channels).
template <typename T>
void conv_forward(long batch, long time, long c, const T* x, const float* w, const T* before, float* y) {
    for (long b = 0; b < batch; b++, before += 3 * c)
        for (long t = 0; t < time; t++, x += c, y += c) {
            const T* past[3];
            for (long j = 0; j < 3; j++) past[j] = t + j >= 3 ? x + (j - 3) * c : before + (t + j) * c;
            for (long i = 0; i < c; i++) {
                float sum = load(past[0], i) * w[i] + load(past[1], i) * w[c + i] + load(past[2], i) * w[2 * c + i] +
                            load(x, i) * w[3 * c + i];
                y[i] = sum * sigmoid(sum);
            }
        }
}
// dx and dbefore in float, dw: (4, channels); all zero before.
template <typename T>
void conv_backward(long batch, long time, long c, const float* dy, const T* x, const float* w, const T* before,
                   float* dx, float* dw, float* dbefore) {
    for (long b = 0; b < batch; b++, before += 3 * c, dbefore += 3 * c)
        for (long t = 0; t < time; t++, x += c, dy += c, dx += c) {
            const T* past[3];
            float* dpast[3];
            for (long j = 0; j < 3; j++) {
                past[j] = t + j >= 3 ? x + (j - 3) * c : before + (t + j) * c;
                dpast[j] = t + j >= 3 ? dx + (j - 3) * c : dbefore + (t + j) * c;
            }
            float *d0 = dpast[0], *d1 = dpast[1], *d2 = dpast[2];
#pragma GCC ivdep
            for (long i = 0; i < c; i++) {
                float a0 = load(past[0], i), a1 = load(past[1], i), a2 = load(past[2], i), a3 = load(x, i);
                float sum = a0 * w[i] + a1 * w[c + i] + a2 * w[2 * c + i] + a3 * w[3 * c + i];
                float s = sigmoid(sum), g = dy[i] * s * (1 + sum * (1 - s));
                d0[i] += g * w[i];
                d1[i] += g * w[c + i];
                d2[i] += g * w[2 * c + i];
                dx[i] += g * w[3 * c + i];
                dw[i] += g * a0;
                dw[c + i] += g * a1;
                dw[2 * c + i] += g * a2;
                dw[3 * c + i] += g * a3;
            }
        }
}

// y = o / rms(o) * w * silu(z), rows of d.
template <typename T>
void gated_forward(long n, long d, const float* o, const T* z, const float* w, T* y) {
    for (long i = 0; i < n; i++, o += d, z += d, y += d) {
        float sum = 0;
        for (long j = 0; j < d; j++) sum += o[j] * o[j];
        float inv = 1.0f / root(sum / d + EPS);
        for (long j = 0; j < d; j++) {
            float gate = load(z, j);
            store(y, j, o[j] * inv * w[j] * gate * sigmoid(gate));
        }
    }
}
template <typename T>
void gated_backward(long n, long d, const T* dy, const float* o, const T* z, const float* w, float* od, T* dz,
                    float* dw) {
    for (long i = 0; i < n; i++, o += d, z += d, dy += d, od += d, dz += d) {
        float sum = 0, dot = 0;
        for (long j = 0; j < d; j++) sum += o[j] * o[j];
        float inv = 1.0f / root(sum / d + EPS);
        for (long j = 0; j < d; j++) {
            float gate = load(z, j), s = sigmoid(gate), g = load(dy, j), normed = o[j] * inv;
            store(dz, j, g * normed * w[j] * s * (1 + gate * (1 - s)));
            float dn = g * gate * s;
            dw[j] += dn * normed;
            dn *= w[j];
            od[j] = dn;
            dot += dn * o[j];
        }
        float back = dot * inv * inv * inv / d;
        for (long j = 0; j < d; j++) od[j] = od[j] * inv - o[j] * back;
    }
}

// Softmax in place over a row's first before + i + 1 of m columns, the rest 0; rows i of n in each of many blocks.
template <typename T>
void softmax_forward(long blocks, long n, long m, long before, T* x) {
    for (long b = 0; b < blocks; b++)
        for (long i = 0; i < n; i++, x += m) {
            long k = before + i + 1 < m ? before + i + 1 : m;
            float top = -3e38f, sum = 0;
            for (long j = 0; j < k; j++) top = load(x, j) > top ? load(x, j) : top;
            for (long j = 0; j < k; j++) sum += power(load(x, j) - top);
            float scale = 1.0f / sum;
            for (long j = 0; j < k; j++) store(x, j, power(load(x, j) - top) * scale);
            std::memset(x + k, 0, (m - k) * sizeof(T));
        }
}
// dx in place of dy.
template <typename T>
void softmax_backward(long blocks, long n, long m, long before, const T* y, T* dy) {
    for (long b = 0; b < blocks; b++)
        for (long i = 0; i < n; i++, y += m, dy += m) {
            long k = before + i + 1 < m ? before + i + 1 : m;
            float dot = 0;
            for (long j = 0; j < k; j++) dot += load(y, j) * load(dy, j);
            for (long j = 0; j < k; j++) store(dy, j, load(y, j) * (load(dy, j) - dot));
            std::memset(dy + k, 0, (m - k) * sizeof(T));
        }
}

constexpr long STRIDE = 32;  // tokens between two states that are kept for the way back

template <int D>
inline float dot(const float* a, const float* b) {
    float sum = 0;
    for (int j = 0; j < D; j++) sum += a[j] * b[j];
    return sum;
}

// One token of the gated delta rule: s <- e^g s; d = beta (v - s'k); s += k d'.
template <int D>
inline void step(float* s, const float* k, const float* v, float decay, float beta, float* d) {
    float kept[D] = {};
    for (int i = 0; i < D; i++)
        for (int j = 0; j < D; j++) {
            s[i * D + j] *= decay;
            kept[j] += k[i] * s[i * D + j];
        }
    for (int j = 0; j < D; j++) d[j] = beta * (v[j] - kept[j]);
    for (int i = 0; i < D; i++)
        for (int j = 0; j < D; j++) s[i * D + j] += k[i] * d[j];
}
// unit: x / |x| * scale; returns 1 / |x|.
template <int D>
inline float unit(const float* x, float scale, float* y) {
    float inv = 1.0f / root(dot<D>(x, x) + EPS);
    for (int j = 0; j < D; j++) y[j] = x[j] * inv * scale;
    return inv;
}
template <int D>
inline void unit_back(const float* dy, const float* x, float inv, float scale, float* dx) {
    float back = dot<D>(dy, x) * inv * inv * inv * scale;
    for (int j = 0; j < D; j++) dx[j] = dy[j] * inv * scale - x[j] * back;
}

// x: (batch, time, 3, heads, D), q, k, v before they are normed. g, beta: (batch, time, heads). s: (batch, heads, D, D),
// the state before, then after. o: (batch, time, heads, D). kept: (batch, heads, ceil(time / STRIDE), D, D).
template <int D>
void delta_forward(long batch, long time, long heads, const float* x, const float* g, const float* beta, float* s,
                   float* o, float* kept) {
    long width = heads * D, chunks = (time + STRIDE - 1) / STRIDE;
    float scale = 1.0f / root(D);
    for (long b = 0; b < batch; b++)
        for (long h = 0; h < heads; h++) {
            float* state = s + (b * heads + h) * D * D;
            float* keep = kept + (b * heads + h) * chunks * D * D;
            for (long t = 0; t < time; t++) {
                if (t % STRIDE == 0) std::memcpy(keep + t / STRIDE * D * D, state, sizeof(float) * D * D);
                long at = b * time + t;
                const float* row = x + at * 3 * width + h * D;
                float q[D], k[D], d[D], out[D] = {};
                unit<D>(row, scale, q);
                unit<D>(row + width, 1.0f, k);
                step<D>(state, k, row + 2 * width, power(g[at * heads + h]), beta[at * heads + h], d);
                for (int i = 0; i < D; i++)
                    for (int j = 0; j < D; j++) out[j] += q[i] * state[i * D + j];
                std::memcpy(o + at * width + h * D, out, sizeof(out));
            }
        }
}
// ds: of the state after, then of the state before. room: (STRIDE, D, D).
template <int D>
void delta_backward(long batch, long time, long heads, const float* x, const float* g, const float* beta,
                    const float* kept, const float* go, float* ds, float* dx, float* dg, float* dbeta, float* room) {
    long width = heads * D, chunks = (time + STRIDE - 1) / STRIDE;
    float scale = 1.0f / root(D);
    for (long b = 0; b < batch; b++)
        for (long h = 0; h < heads; h++) {
            float* dstate = ds + (b * heads + h) * D * D;
            const float* keep = kept + (b * heads + h) * chunks * D * D;
            for (long chunk = chunks - 1; chunk >= 0; chunk--) {
                long first = chunk * STRIDE, past = first + STRIDE < time ? first + STRIDE : time;
                float state[D * D], k[D], q[D], d[D];
                std::memcpy(state, keep + chunk * D * D, sizeof(state));
                for (long t = first; t < past; t++) {
                    std::memcpy(room + (t - first) * D * D, state, sizeof(state));
                    long at = b * time + t;
                    const float* row = x + at * 3 * width + h * D;
                    unit<D>(row + width, 1.0f, k);
                    step<D>(state, k, row + 2 * width, power(g[at * heads + h]), beta[at * heads + h], d);
                }
                for (long t = past - 1; t >= first; t--) {
                    long at = b * time + t;
                    const float* row = x + at * 3 * width + h * D;
                    const float *v = row + 2 * width, *dout = go + at * width + h * D, *s = room + (t - first) * D * D;
                    float decay = power(g[at * heads + h]), rate = beta[at * heads + h];
                    float iq = unit<D>(row, scale, q), ik = unit<D>(row + width, 1.0f, k);
                    float off[D], dq[D], dk[D], dd[D] = {}, dkept[D], read[D] = {};
                    for (int i = 0; i < D; i++)
                        for (int j = 0; j < D; j++) read[j] += k[i] * s[i * D + j];
                    for (int j = 0; j < D; j++) off[j] = v[j] - decay * read[j];
                    for (int j = 0; j < D; j++) d[j] = rate * off[j];
                    float own = dot<D>(d, dout);
                    for (int i = 0; i < D; i++) {
                        float* line = dstate + i * D;
                        for (int j = 0; j < D; j++) {
                            line[j] += q[i] * dout[j];
                            dd[j] += k[i] * line[j];
                        }
                        dk[i] = dot<D>(line, d);
                        dq[i] = decay * dot<D>(s + i * D, dout) + k[i] * own;
                    }
                    for (int j = 0; j < D; j++) dkept[j] = -rate * dd[j];
                    float ddecay = 0;
                    for (int i = 0; i < D; i++) {
                        float* line = dstate + i * D;
                        dk[i] += decay * dot<D>(s + i * D, dkept);
                        for (int j = 0; j < D; j++) {
                            float to = line[j] + k[i] * dkept[j];
                            ddecay += to * s[i * D + j];
                            line[j] = decay * to;
                        }
                    }
                    dg[at * heads + h] = ddecay * decay;
                    dbeta[at * heads + h] = dot<D>(dd, off);
                    float* out = dx + at * 3 * width + h * D;
                    unit_back<D>(dq, row, iq, scale, out);
                    unit_back<D>(dk, row + width, ik, 1.0f, out + width);
                    for (int j = 0; j < D; j++) out[2 * width + j] = rate * dd[j];
                }
            }
        }
}

}  // namespace

#define EACH(name, T)                                                                                                  \
    void norm_forward_##name(long n, long d, const float* x, const float* w, T* y, float* inverse) {                   \
        norm_forward(n, d, x, w, y, inverse);                                                                          \
    }                                                                                                                  \
    void norm_backward_##name(long n, long d, const T* dy, const float* x, const float* w, const float* inverse,       \
                              float* dx, float* dw) {                                                                  \
        norm_backward(n, d, dy, x, w, inverse, dx, dw);                                                                \
    }                                                                                                                  \
    void swiglu_forward_##name(long n, long d, const T* x, T* y) { swiglu_forward(n, d, x, y); }                       \
    void swiglu_backward_##name(long n, long d, const T* dy, const T* x, T* dx) { swiglu_backward(n, d, dy, x, dx); }  \
    void conv_forward_##name(long b, long t, long c, const T* x, const float* w, const T* before, float* y) {          \
        conv_forward(b, t, c, x, w, before, y);                                                                        \
    }                                                                                                                  \
    void conv_backward_##name(long b, long t, long c, const float* dy, const T* x, const float* w, const T* before,    \
                              float* dx, float* dw, float* dbefore) {                                                  \
        conv_backward(b, t, c, dy, x, w, before, dx, dw, dbefore);                                                     \
    }                                                                                                                  \
    void gated_forward_##name(long n, long d, const float* o, const T* z, const float* w, T* y) {                      \
        gated_forward(n, d, o, z, w, y);                                                                               \
    }                                                                                                                  \
    void gated_backward_##name(long n, long d, const T* dy, const float* o, const T* z, const float* w, float* od,     \
                               T* dz, float* dw) {                                                                     \
        gated_backward(n, d, dy, o, z, w, od, dz, dw);                                                                 \
    }                                                                                                                  \
    void softmax_forward_##name(long blocks, long n, long m, long before, T* x) {                                      \
        softmax_forward(blocks, n, m, before, x);                                                                      \
    }                                                                                                                  \
    void softmax_backward_##name(long blocks, long n, long m, long before, const T* y, T* dy) {                        \
        softmax_backward(blocks, n, m, before, y, dy);                                                                 \
    }
#define WIDTH(D)                                                                                                       \
    void delta_forward_##D(long b, long t, long h, const float* x, const float* g, const float* beta, float* s,        \
                           float* o, float* kept) {                                                                    \
        delta_forward<D>(b, t, h, x, g, beta, s, o, kept);                                                             \
    }                                                                                                                  \
    void delta_backward_##D(long b, long t, long h, const float* x, const float* g, const float* beta,                 \
                            const float* kept, const float* go, float* ds, float* dx, float* dg, float* dbeta,         \
                            float* room) {                                                                             \
        delta_backward<D>(b, t, h, x, g, beta, kept, go, ds, dx, dg, dbeta, room);                                     \
    }

extern "C" {
EACH(float32, float)
EACH(bfloat16, half)
WIDTH(32)
WIDTH(48)
}
