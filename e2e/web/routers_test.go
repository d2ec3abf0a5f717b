package web_test

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/labstack/echo/v4"
	echomiddleware "github.com/labstack/echo/v4/middleware"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidehttp"
)

// page is a handler and where it is found. Instead of serve it may have do, which
// a router serves as it does what may fail: with 204, or with 500 for an error.
type page struct {
	method, path string
	serve        http.Handler
	do           func(*http.Request) error
}

func (p page) handler() http.Handler {
	if p.do == nil {
		return p.serve
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := p.do(r); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

// router serves pages below a middleware with these options, each router in its
// own way. The last route is for the page /report by its name, where the router
// has names.
type router struct {
	name string
	make func(db *pgtide.DB, o pgtidehttp.Options, pages []page) http.Handler
	// unnamed says that it has no names, aborts that a panic ends the connection,
	// http2 that it is served so, and copies that a file gets to ReadFrom.
	unnamed, aborts, http2, copies bool
}

var routers = []router{
	{name: "ServeMux", make: overServeMux, aborts: true, copies: true},
	{name: "ServeMux, HTTP 2", make: overServeMux, aborts: true, http2: true},
	{name: "chi", make: overChi, copies: true},
	{name: "echo", make: overEcho},
	{name: "gin", make: overGin, unnamed: true},
}

func named(o pgtidehttp.Options, report string, name func(*http.Request) string) pgtidehttp.Options {
	o.RouteName = name
	o.Routes = append(o.Routes[:len(o.Routes):len(o.Routes)], pgtidehttp.Route{Name: report, Use: "primary"})
	return o
}

func overServeMux(db *pgtide.DB, o pgtidehttp.Options, pages []page) http.Handler {
	mux := http.NewServeMux()
	for _, p := range pages {
		mux.Handle(p.method+" "+p.path, p.handler())
	}
	return pgtidehttp.New(db, named(o, "GET /report", pgtidehttp.MuxNames(mux))).Wrap(mux)
}

func overChi(db *pgtide.DB, o pgtidehttp.Options, pages []page) http.Handler {
	r := chi.NewRouter()
	o = named(o, "/report", func(q *http.Request) string {
		c := chi.NewRouteContext()
		if !r.Match(c, q.Method, q.URL.Path) {
			return ""
		}
		return c.RoutePattern()
	})
	r.Use(chimiddleware.Recoverer, pgtidehttp.New(db, o).Wrap)
	for _, p := range pages {
		r.Method(p.method, p.path, p.handler())
	}
	return r
}

type routeName struct{}

func overEcho(db *pgtide.DB, o pgtidehttp.Options, pages []page) http.Handler {
	e := echo.New()
	names := map[string]string{} // by path
	o = named(o, "report", func(r *http.Request) string {
		name, _ := r.Context().Value(routeName{}).(string)
		return name
	})
	m := pgtidehttp.New(db, o)
	e.Use(echomiddleware.Recover(), func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r := c.Request()
			c.SetRequest(r.WithContext(context.WithValue(r.Context(), routeName{}, names[c.Path()])))
			return next(c)
		}
	}, func(next echo.HandlerFunc) echo.HandlerFunc {
		return echo.WrapMiddleware(m.Wrap)(func(c echo.Context) error {
			if err := next(c); err != nil {
				c.Error(err) // answered below the middleware, which sees the status
			}
			return nil
		})
	})
	for _, p := range pages {
		h := echo.WrapHandler(p.serve)
		if p.do != nil {
			h = func(c echo.Context) error {
				if err := p.do(c.Request()); err != nil {
					return err
				}
				return c.NoContent(http.StatusNoContent)
			}
		}
		route := e.Add(p.method, p.path, h)
		if p.path == "/report" {
			route.Name = "report"
		}
		names[route.Path] = route.Name
	}
	return e
}

func overGin(db *pgtide.DB, o pgtidehttp.Options, pages []page) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.Use(gin.CustomRecovery(func(c *gin.Context, _ any) { c.AbortWithStatus(http.StatusInternalServerError) }))
	for _, p := range pages {
		h := gin.WrapH(p.serve)
		if p.do != nil {
			h = func(c *gin.Context) {
				if err := p.do(c.Request); err != nil {
					_ = c.AbortWithError(http.StatusInternalServerError, err)
					return
				}
				c.Status(http.StatusNoContent)
			}
		}
		e.Handle(p.method, p.path, h)
	}
	return pgtidehttp.New(db, o).Wrap(e)
}
