package registry

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assent-dev/assent/consent"
)

func TestDownstream_HearsWhatItAskedFor(t *testing.T) {
	withdrawal := consent.Change{Tenant: "default", Purpose: "m.e", Withdrawal: true}
	grant := consent.Change{Tenant: "default", Purpose: "m.e"}
	testChange := consent.Change{Tenant: "default", Purpose: "m.e", Withdrawal: true, Test: true}
	other := consent.Change{Tenant: "other", Purpose: "m.e", Withdrawal: true}
	above := consent.Change{Tenant: "default", Purpose: "m", Withdrawal: true}
	root := consent.Change{Tenant: "default", Purpose: "*", Withdrawal: true}
	beside := consent.Change{Tenant: "default", Purpose: "me", Withdrawal: true}

	for name, c := range map[string]struct {
		patterns []consent.Pattern
		filter   ChangeFilter
		test     bool
		hears    []consent.Change
		not      []consent.Change
	}{
		"one purpose":      {[]consent.Pattern{"m.e"}, All, false, []consent.Change{withdrawal, grant}, []consent.Change{testChange, other, above, root, beside}},
		"withdrawals only": {[]consent.Pattern{"m.e"}, Withdrawals, false, []consent.Change{withdrawal}, []consent.Change{grant, testChange}},
		"a branch":         {[]consent.Pattern{"m.*"}, All, false, []consent.Change{withdrawal, above}, []consent.Change{root, beside}},
		"everything":       {[]consent.Pattern{"*"}, All, false, []consent.Change{withdrawal, above, root, beside}, []consent.Change{other, testChange}},
		"tests too":        {[]consent.Pattern{"m.e"}, All, true, []consent.Change{withdrawal, grant, testChange}, []consent.Change{other}},
		"second pattern":   {[]consent.Pattern{"x", "m.e"}, All, false, []consent.Change{withdrawal}, nil},
		"nothing":          {nil, All, false, nil, []consent.Change{withdrawal, root}},
	} {
		t.Run(name, func(t *testing.T) {
			d := &Downstream{Tenant: "default", Purposes: c.patterns, Changes: c.filter, Test: c.test}
			for _, x := range c.hears {
				if !d.Hears(&x) {
					t.Errorf("does not hear %+v", x)
				}
			}
			for _, x := range c.not {
				if d.Hears(&x) {
					t.Errorf("hears %+v", x)
				}
			}
		})
	}
}

func TestRegistry_HeardKnowsWhomAWithdrawalReaches(t *testing.T) {
	r := load(t, `purposes:
  - {id: m, title: T, group: true}
  - {id: m.e, title: T, legal_basis: contract}
  - {id: m.s, title: T, legal_basis: contract}
  - {id: a, title: T, legal_basis: contract}
  - {id: b, title: T, legal_basis: contract}
`, `downstreams:
  - {name: one, purposes: [m.e, x], changes: withdrawals, delivery: {webhook: {url: "https://a.example", secrets: [env:S]}}}
  - {name: two, purposes: [a], delivery: {topic: {name: t}}}
`)
	for p, want := range map[consent.Purpose]bool{
		"m.e": true, "x": true,
		"m": true, "*": true, // told for m.e
		"m.s": false, "b": false, "m.e.f": false, "x.y": false,
		"a": false, // nothing is delivered to a topic
	} {
		if got := r.Heard("default", p); got != want {
			t.Errorf("Heard(%s) = %v", p, got)
		}
	}
	if r.Heard("other", "m.e") {
		t.Error("another tenant's withdrawal is heard")
	}
}

func TestInternal_TellsPublicAddresses(t *testing.T) {
	for _, s := range []string{
		"127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.255",
		"0.0.0.0", "0.1.2.3", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.0.8",
		"::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1", "100::1", "fec0::1",
		"::ffff:10.0.0.1", "::ffff:100.64.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1",
	} {
		if !Internal(netip.MustParseAddr(s)) {
			t.Errorf("%s counts as public", s)
		}
	}
	for _, s := range []string{"8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.32.0.1", "192.0.1.1", "198.20.0.1", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1", "::ffff:8.8.8.8"} {
		if Internal(netip.MustParseAddr(s)) {
			t.Errorf("%s counts as internal", s)
		}
	}
	if !Internal(netip.Addr{}) {
		t.Error("no address counts as public")
	}
}

func TestLoad_TakesURLsThatAreDeclared(t *testing.T) {
	for _, s := range []string{
		"url: https://crm.example/consent?shop=1",
		"url: https://crm.example:8443",
		"url: https://8.8.8.8/",
		"internal: true\n        url: http://127.0.0.1:9301/consent",
		"internal: true\n        url: http://crm:8080/",
		"internal: true\n        url: \"http://[fd00::1]:80/\"",
		"internal: false\n        url: https://crm.example",
		"internal: true\n        url: https://crm.corp.internal/",
	} {
		r := load(t, goodPurposes, inWebhook(s))
		if u := r.Downstreams()[0].Webhook.URL; !strings.Contains(s, u) || u == "" {
			t.Errorf("%s is read as %q", s, u)
		}
	}
}

func TestLoad_FillsInWhatAWebhookDoesNotSay(t *testing.T) {
	r := load(t, goodPurposes, inDownstream("test: false"))
	d := r.Downstreams()[0]
	w := d.Webhook
	if w.Timeout != DefaultTimeout || w.Concurrency != DefaultConcurrency || w.RateLimit != 0 || w.Attempts != DefaultAttempts || w.Internal {
		t.Errorf("webhook = %+v", w)
	}
	if d.Changes != All || d.Start != StartSnapshot || !d.Deadline.IsZero() || d.Test || d.Acknowledgement.Required {
		t.Errorf("downstream = %+v", d)
	}
}

func TestLoad_ReadsRates(t *testing.T) {
	for s, want := range map[string]float64{"500/s": 500, "30/m": 0.5, "1800/h": 0.5, "1000000/s": 1e6} {
		r := load(t, goodPurposes, inWebhook(webhookURL+"rate_limit: "+s))
		if got := r.Downstreams()[0].Webhook.RateLimit; got != want {
			t.Errorf("%s = %v a second, want %v", s, got, want)
		}
	}
}

func TestSecrets_ResolveByReference(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secret")
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("from-file\n")
	secrets := SecretsFrom(func(name string) (string, bool) {
		s, ok := map[string]string{"A": "from-env", "EMPTY": ""}[name]
		return s, ok
	})
	for ref, want := range map[SecretRef]string{"env:A": "from-env", SecretRef("file:" + path): "from-file"} {
		if got, err := secrets(ref); err != nil || got != want {
			t.Errorf("%s = %q, %v", ref, got, err)
		}
	}
	write("rotated")
	if got, _ := secrets(SecretRef("file:" + path)); got != "rotated" {
		t.Errorf("after rotation = %q", got)
	}
	for _, c := range []struct{ ref, want string }{
		{"env:B", "secret env:B is not set, or empty"},
		{"env:EMPTY", "secret env:EMPTY is not set, or empty"},
		{"file:" + dir + "/none", "no such file"},
		{"file:" + dir, "is a directory"},
		{"hunter2", "a secret is named as env:NAME or file:PATH"},
	} {
		s, err := secrets(SecretRef(c.ref))
		if err == nil || s != "" || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s = %q, %v; want %s", c.ref, s, err, c.want)
		}
	}
	write(strings.Repeat("a", maxSecretBytes+1))
	if _, err := secrets(SecretRef("file:" + path)); err == nil || !strings.Contains(err.Error(), "larger than 64 KiB") {
		t.Errorf("a large file: %v", err)
	}
}

func TestLoad_FindsFilesBesideTheRegistryFile(t *testing.T) {
	read := disk(map[string]string{
		"/etc/assent/p.yaml":        notice(`id: n, version: "1", language: en, file: texts/n.txt`),
		"/etc/assent/texts/n.txt":   "Yes.",
		"/etc/assent/conf/d.yaml":   "downstreams:\n  - {name: a, purposes: [a], delivery: {webhook: {url: \"https://a.example\", secrets: [file:s, file:/run/s]}}}\n",
		"/etc/assent/conf/notice/x": "",
	})
	r, err := Load([]string{"/etc/assent/p.yaml"}, []string{"/etc/assent/conf/d.yaml"}, Options{ReadFile: read})
	if err != nil {
		t.Fatal(Explain(err))
	}
	if got := r.Catalogue("default").Find("a").Notices[0].Text; got != "Yes." {
		t.Errorf("text = %q", got)
	}
	if got := r.Downstreams()[0].Webhook.Secrets; len(got) != 2 || got[0] != "file:/etc/assent/conf/s" || got[1] != "file:/run/s" {
		t.Errorf("secrets = %q", got)
	}
}
