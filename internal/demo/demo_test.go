package demo

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func get(t *testing.T, path string) *httptest.ResponseRecorder {
	t.Helper()
	mux := http.NewServeMux()
	Register(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func TestRegister_ServesEachFileWithItsTypeAndAStrictPolicy(t *testing.T) {
	for path, kind := range map[string]string{
		"/demo": "text/html", "/demo/receiver": "text/html",
		"/demo/demo.js": "text/javascript", "/demo/receiver.js": "text/javascript", "/demo/demo.css": "text/css",
	} {
		w := get(t, path)
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), kind) {
			t.Errorf("%s: %d %s", path, w.Code, w.Header().Get("Content-Type"))
		}
		if !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s may load from anywhere", path)
		}
	}
}

func TestRegister_LeadsTheRootToTheDemoAndNothingElse(t *testing.T) {
	if w := get(t, "/"); w.Code != http.StatusFound || w.Header().Get("Location") != "/demo" {
		t.Errorf("/: %d to %q", w.Code, w.Header().Get("Location"))
	}
	if w := get(t, "/nothing"); w.Code != http.StatusNotFound {
		t.Errorf("/nothing: %d", w.Code)
	}
}

func TestPage_HasNoInlineScriptAndNothingTicked(t *testing.T) {
	for _, path := range []string{"/demo", "/demo/receiver"} {
		body := get(t, path).Body.String()
		if strings.Contains(body, "<script>") || strings.Contains(body, "style=") || strings.Contains(body, " checked") {
			t.Errorf("%s holds an inline script, an inline style or a ticked control", path)
		}
	}
}
