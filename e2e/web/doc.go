// Package web shows pgtide's middleware under four routers, on a cluster whose
// replicas have stopped replaying:
//
//	handler := m.Wrap(mux)              // net/http
//	router.Use(m.Wrap)                  // chi
//	e.Use(wrapped)                      // echo, see below
//	handler := m.Wrap(engine)           // gin
//
// echo answers an error that a handler returns when all middlewares are done, with
// which the request's transaction would be committed already. So it is answered
// below this one:
//
//	func wrapped(next echo.HandlerFunc) echo.HandlerFunc {
//		return echo.WrapMiddleware(m.Wrap)(func(c echo.Context) error {
//			if err := next(c); err != nil {
//				c.Error(err)
//			}
//			return nil
//		})
//	}
//
// Wrappers such as pgtidehttp.UsePrimary go round a handler: chi takes them in
// With, echo in echo.WrapHandler, gin in gin.WrapH.
//
// Routes by name need to know the name before the router has run: from
// pgtidehttp.MuxNames for a ServeMux, from chi's Match, or from a middleware of
// echo that stands before. gin has no names.
package web
