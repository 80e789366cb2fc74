// Package demo serves the sample preference page of `assent up`, and the page
// that shows what the built-in receiver was told.
//
// The pages hold no secret and no state: they are plain HTML with one script,
// and speak to the same HTTP interface as any channel app. They double as the
// example for one.
package demo

import (
	"embed"
	"net/http"
)

//go:embed page
var files embed.FS

// policy lets the pages load and call this origin only.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Register adds /demo, /demo/receiver, their script and style, and leads / to /demo.
func Register(mux *http.ServeMux) {
	page(mux, "GET /demo", "page/demo.html", "text/html; charset=utf-8")
	page(mux, "GET /demo/receiver", "page/receiver.html", "text/html; charset=utf-8")
	page(mux, "GET /demo/demo.js", "page/demo.js", "text/javascript; charset=utf-8")
	page(mux, "GET /demo/receiver.js", "page/receiver.js", "text/javascript; charset=utf-8")
	page(mux, "GET /demo/demo.css", "page/demo.css", "text/css; charset=utf-8")
	page(mux, "GET /demo/icon.svg", "page/icon.svg", "image/svg+xml")
	mux.Handle("GET /{$}", http.RedirectHandler("/demo", http.StatusFound))
}

func page(mux *http.ServeMux, pattern, name, contentType string) {
	body, err := files.ReadFile(name)
	if err != nil {
		panic("demo: " + err.Error()) // embedded at build time: a missing file is a build fault
	}
	mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", contentType)
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		_, _ = w.Write(body)
	})
}
